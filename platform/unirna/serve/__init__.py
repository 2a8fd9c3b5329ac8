"""The service: one engine behind HTTP, deployed on Ray Serve.

`unirna.serve.engine.engine` knows neither Ray nor HTTP and is what `sdk.connect("path/to/store")` runs in process;
`unirna.serve.api.app` is the HTTP application around it; `unirna.serve.ray.deployment` puts that on Ray Serve. They are
imported by name, so that the engine alone costs neither FastAPI nor Ray.
"""

from unirna.serve.errors import RequestError
from unirna.serve.settings import Settings, SettingsError

__all__ = ["RequestError", "Settings", "SettingsError"]
