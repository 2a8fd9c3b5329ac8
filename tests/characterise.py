"""What the platform computes on fixed inputs, to compare before and after a change that should alter no number.

    python tests/characterise.py record runs/before.json
    python tests/characterise.py compare runs/before.json

Records vectors, every shipped predictor's answers, structures with their pair probabilities, scores of variants, hits of
searches, a corpus, an embedding job's rows, a screen's ranking and the JSON of HTTP operations. Numbers may differ by 1e-6
of their size, everything else must be the same. `tests/golden_curve.json` holds the loss curve. It takes a few minutes.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

ROOT = Path(__file__).resolve().parent.parent
SAMPLE = ROOT / "jobs" / "demo" / "rfam_sample.parquet"
TOLERANCE = 1e-6
VOLATILE = {
    "source",
    "milliseconds",
    "seconds",
    "took",
    "created",
    "created_at",
    "version",
    "started",
    "finished",
    "uptime",
    "uptime_seconds",
    "rows_per_second",
    "nucleotides_per_second",
    "request_id",
    "address",
    "url",
    "dataset_version",
    "measured",
    "memory_bytes",
    "bytes",
    "loaded",
}
"""Fields that differ from run to run."""


def sequences() -> dict[str, list[str]]:
    """Fixed inputs."""
    rows = pq.read_table(SAMPLE, columns=["sequence", "split"]).to_pylist()
    train = [row["sequence"] for row in rows if row["split"] == "train"]
    held_out = [row["sequence"] for row in rows if row["split"] == "heldout"]
    joined = "".join(train)
    windows = [joined[i - 20 : i + 21] for i in range(20, 60_000) if joined[i : i + 2] == "AC"]
    centred = [window for window in windows if set(window) <= set("ACGU")]
    return {
        "any": train[::10][:300],
        "held_out": held_out[:50],
        "m6a": centred[:100],
        "sirna": [joined[i : i + 21] for i in range(0, 2_100, 21)],
        "ribosome_load": [joined[i : i + 50] for i in range(0, 5_000, 50)],
    }


def computed(work: Path) -> Iterator[tuple[str, Any]]:
    """Name and value of everything that is computed.

    Args:
        work: an empty folder.
    """
    from unirna import sdk

    inputs = sequences()
    library, store = work / "library.fasta", work / "store"
    library.write_text("".join(f">r{i}\n{text}\n" for i, text in enumerate(inputs["any"])))
    run("embed.py", SAMPLE, "--collection", "rfam", "--store", store, "--model", "unirna-mini", "--workers", "1")
    run("embed.py", library, "--collection", "library", "--store", store, "--model", "unirna-mini", "--workers", "1")
    with sdk.connect(str(store), collection="rfam") as client:
        yield "vectors", client.embed(inputs["any"]).round(7).tolist()
        for model in client.models():
            if model.kind != "encoder":
                asked = inputs.get(model.name, inputs["any"][:100])
                yield f"predict {model.name}", client.predict(model.name, asked, top=0).to_dicts()
        short = [text for text in inputs["any"] if len(text) < 120][:100]
        folded = client.fold(short, contacts=True)
        yield "fold", [one.to_dict() if hasattr(one, "to_dict") else vars(one) for one in folded]
        yield "variants", client.score_variants(inputs["any"][0][:40]).to_dicts()
        ways: dict[str, dict[str, Any]] = {
            "vector": {"verify": False},
            "hybrid": {"hybrid": True},
            "aligned": {"verify": True},
            "filtered": {"verify": False, "where": "length < 100 AND rna_type LIKE 'Gene%'"},
        }
        for name, asked in ways.items():
            yield f"search {name}", [client.search(text, **asked).to_dicts() for text in inputs["held_out"]]
    run("corpus.py", f"rfam={SAMPLE}", "--out", work / "corpus", "--group-column", "family", "--clustering", "minhash")
    corpus = work / "corpus"
    shards = sorted(path for path in corpus.rglob("*") if path.is_file() and path.suffix in {".bin", ".npy"})
    yield "corpus", {str(path.relative_to(corpus)): hashlib.sha256(path.read_bytes()).hexdigest() for path in shards}
    screen = ("--predict", "rna_type=tRNA", "--top", "100", "--workers", "1", "--out", work / "screen")
    run("screen.py", library, "--similar-to", fasta(work / "references.fasta", inputs["held_out"][:20]), *screen)
    yield "screen", pq.read_table(work / "screen" / "ranked.parquet").to_pylist()
    yield "http", http(store, inputs)


def run(script: str, *arguments: str | Path) -> None:
    """Run a job of `jobs/`; its output stands in the error if it fails."""
    command = [sys.executable, str(ROOT / "jobs" / script), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)}\n{done.stdout}{done.stderr}")


def fasta(path: Path, texts: list[str]) -> Path:
    """Write sequences."""
    path.write_text("".join(f">q{i}\n{text}\n" for i, text in enumerate(texts)))
    return path


def http(store: Path, inputs: dict[str, list[str]]) -> dict[str, Any]:
    """Answers of a service to one request of each kind."""
    port = "28417"
    command = [sys.executable, str(ROOT / "jobs" / "serve.py"), "--store", str(store), "--model", "unirna-mini"]
    command += ["--collection", "rfam", "--port", port]
    url = f"http://127.0.0.1:{port}"
    first, three = inputs["held_out"][0], inputs["held_out"][:3]
    id_ = pq.read_table(SAMPLE, columns=["id"])["id"][0].as_py()
    requests: list[tuple[str, str, Any]] = [
        ("POST", "/v1/search", {"similar_to": first, "k": 3}),
        ("POST", "/v1/search", {"queries": [*three, "hello world"], "k": 2}),
        ("POST", "/v1/parse", {"text": f">a\n{first}\n>b\nACGX1\n"}),
        ("POST", "/v1/embed", {"sequences": three}),
        ("POST", "/v1/predict/rna_type", {"sequences": three}),
        ("POST", "/v1/predict/sirna", {"sequences": three}),
        ("POST", "/v1/fold", {"sequences": three}),
        ("POST", "/v1/score-variants", {"sequence": first[:30], "variants": ["A1G"]}),
        ("GET", "/v1/models", None),
        ("GET", "/v1/models/rna_type/card", None),
        ("GET", "/v1/collections", None),
        ("GET", "/v1/collections/rfam", None),
        ("GET", "/v1/collections/rfam/sample?count=3&seed=1", None),
        ("GET", f"/v1/collections/rfam/record?id={urllib.parse.quote(id_)}", None),
        ("GET", "/v1/collections/library/export?format=fasta", None),
        ("GET", "/v1/collections/rfam/map", None),
        ("GET", "/nosuch", None),
        ("GET", "/openapi.json", None),
    ]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as service:
        try:
            end = time.monotonic() + 180
            while answer(url, "GET", "/readyz", None)[0] != 200:
                if service.poll() is not None or time.monotonic() > end:
                    raise SystemExit("the service did not start")
                time.sleep(0.5)
            return {f"{number} {one[0]} {one[1]}": answer(url, *one) for number, one in enumerate(requests)}
        finally:
            service.terminate()
            service.wait(60)


def answer(url: str, method: str, path: str, body: Any) -> tuple[int, Any]:
    """Status and body of an answer; 0 where nothing answers."""
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url + path, data, {"content-type": "application/json"}, method=method)
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(request, timeout=120) as found:
            status, text = found.status, found.read().decode("utf-8", "backslashreplace")
    except urllib.error.HTTPError as error:
        status, text = error.code, error.read().decode()
    except OSError:
        return 0, None
    try:
        return status, json.loads(text)
    except ValueError:
        return status, text


def plain(value: Any) -> Any:
    """As JSON has it, without what differs from run to run."""
    if isinstance(value, dict):
        return {str(key): plain(one) for key, one in value.items() if key not in VOLATILE}
    if isinstance(value, list | tuple | np.ndarray):
        return [plain(one) for one in value]
    if isinstance(value, np.generic):
        return value.item()
    return value if isinstance(value, str | int | float | bool | None) else str(value)


def differences(old: Any, new: Any, place: str) -> Iterator[str]:
    """Where two values differ, a line each."""
    numbers = isinstance(old, int | float) and isinstance(new, int | float) and not isinstance(old, bool)
    if numbers:
        if not np.isclose(old, new, rtol=TOLERANCE, atol=TOLERANCE, equal_nan=True):
            yield f"{place}: {old} -> {new}"
    elif isinstance(old, dict) and isinstance(new, dict):
        for key in old.keys() | new.keys():
            if key not in old or key not in new:
                yield f"{place}.{key}: {'missing' if key in old else 'new'}"
            else:
                yield from differences(old[key], new[key], f"{place}.{key}")
    elif isinstance(old, list) and isinstance(new, list):
        if len(old) != len(new):
            yield f"{place}: {len(old)} -> {len(new)} items"
        for number, (a, b) in enumerate(zip(old, new, strict=False)):
            yield from differences(a, b, f"{place}[{number}]")
    elif old != new:
        yield f"{place}: {str(old)[:80]!r} -> {str(new)[:80]!r}"


def main() -> int:
    """Record or compare."""
    if len(sys.argv) != 3 or sys.argv[1] not in ("record", "compare"):
        print(__doc__)
        return 2
    path = Path(sys.argv[2])
    with tempfile.TemporaryDirectory() as work:
        found = {}
        for name, value in computed(Path(work)):
            found[name] = plain(value)
            print(name, flush=True)
    found = json.loads(json.dumps(found))
    if sys.argv[1] == "record":
        path.parent.mkdir(parents=True, exist_ok=True)
        with gzip.open(path, "wt") as file:
            json.dump(found, file)
        return 0
    with gzip.open(path, "rt") as file:
        before = json.load(file)
    lines = [line for name in before for line in differences(before[name], found.get(name), name)]
    print("\n".join(lines[:200]) or "no difference", f"\n{len(lines)} differences" if lines else "")
    return bool(lines)


if __name__ == "__main__":
    sys.exit(main())
