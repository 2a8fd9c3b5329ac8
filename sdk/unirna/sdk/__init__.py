"""Search, embed, classify and fold RNA sequences, with a UniRNA service or a store on this machine.

>>> from unirna import sdk
>>> hits = sdk.search(similar_to="GCGGAUUUAGCUCAGUUGGGAGAGCGCC", k=10)     # doctest: +SKIP
>>> hits[0].id, hits[0].similarity, hits[0].labels["family"]                # doctest: +SKIP

The functions here talk to the service at `UNIRNA_URL`, by default http://127.0.0.1:8000; `connect` takes another address,
or the path of a store, and gives a client with the same methods.
"""

from unirna.sdk._async_client import AsyncClient
from unirna.sdk._async_jobs import AsyncJob, AsyncJobs
from unirna.sdk._client import Client
from unirna.sdk._connect import connect, connect_async
from unirna.sdk._exceptions import (
    AuthenticationError,
    ForkedProcessError,
    InvalidRequestError,
    ModelMismatchError,
    NotFoundError,
    ServiceError,
    ServiceTimeoutError,
    ServiceUnavailableError,
    UniRNAError,
)
from unirna.sdk._fasta import read_fasta
from unirna.sdk._functions import (
    collections,
    embed,
    fold,
    jobs,
    models,
    predict,
    sample,
    score_variants,
    screen,
    search,
    search_many,
)
from unirna.sdk._job_inputs import RejectedRecordWarning
from unirna.sdk._jobs import Job, JobFacts, JobFailedError, JobFile, Jobs
from unirna.sdk._models import (
    Alignment,
    CollectionInfo,
    Estimate,
    Hit,
    LabelSet,
    ModelInfo,
    Prediction,
    Profile,
    Record,
    Structure,
    VariantScore,
)
from unirna.sdk._results import (
    FoldResult,
    MapResult,
    PredictionResult,
    SampleResult,
    SearchResult,
    SearchResults,
    VariantResult,
)

__all__ = [
    "Alignment",
    "AsyncClient",
    "AsyncJob",
    "AsyncJobs",
    "AuthenticationError",
    "Client",
    "CollectionInfo",
    "Estimate",
    "FoldResult",
    "ForkedProcessError",
    "Hit",
    "InvalidRequestError",
    "Job",
    "JobFacts",
    "JobFailedError",
    "JobFile",
    "Jobs",
    "LabelSet",
    "MapResult",
    "ModelInfo",
    "ModelMismatchError",
    "NotFoundError",
    "Prediction",
    "PredictionResult",
    "Profile",
    "Record",
    "RejectedRecordWarning",
    "SampleResult",
    "SearchResult",
    "SearchResults",
    "ServiceError",
    "ServiceTimeoutError",
    "ServiceUnavailableError",
    "Structure",
    "UniRNAError",
    "VariantResult",
    "VariantScore",
    "collections",
    "connect",
    "connect_async",
    "embed",
    "fold",
    "jobs",
    "models",
    "predict",
    "read_fasta",
    "sample",
    "score_variants",
    "screen",
    "search",
    "search_many",
]
