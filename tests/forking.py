"""Clients in other processes, for test_fork.py: a program of its own, since a fork of the test run would take all with it.

`forking.py http URL`, or `forking.py store STORE MODEL`; it prints what happened as JSON.
"""

from __future__ import annotations

import asyncio
import json
import multiprocessing as mp
import os
import pickle
import signal
import sys
import warnings
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from typing import Any

from unirna import sdk

CALLS = 6
SEQUENCE = "ACGUACGUACGUACGUACGU"


def call(client: sdk.Client, length: int) -> list[list[float]]:
    """What the echo server answers: the sequence's length, and the port that the request came from."""
    return [client.embed(["A" * length])[0].tolist() for _ in range(CALLS)]


async def call_async(client: sdk.AsyncClient, length: int) -> list[list[float]]:
    return [(await client.embed(["A" * length]))[0].tolist() for _ in range(CALLS)]


def by_function(length: int) -> list[list[float]]:
    return [sdk.embed(["A" * length])[0].tolist() for _ in range(CALLS)]


def in_child(work: Callable[[], Any]) -> Any:
    """The result of some work in a forked process, or its error; "hangs" after 30 s."""
    read, write = os.pipe()
    if not os.fork():
        signal.alarm(30)
        try:
            answer = work()
        except Exception as error:
            answer = f"{type(error).__name__}: {error}"
        os.write(write, json.dumps(answer).encode())
        os._exit(0)
    os.close(write)
    with os.fdopen(read) as pipe:
        text = pipe.read()
    os.wait()
    return json.loads(text) if text else "hangs"


def http(url: str) -> dict[str, Any]:
    os.environ["UNIRNA_URL"] = url
    client, inherited = sdk.connect(url), sdk.connect_async(url)
    found: dict[str, Any] = {"parent": call(client, 10)}
    found["async parent"] = asyncio.run(call_async(inherited, 11))
    found["async again"] = asyncio.run(call_async(inherited, 12))
    found["function"] = by_function(13)
    found["fork"] = in_child(lambda: call(client, 20))
    found["async fork"] = in_child(lambda: asyncio.run(call_async(inherited, 21)))
    found["function fork"] = in_child(lambda: by_function(22))
    found["fork of a fork"] = in_child(lambda: [call(client, 23), in_child(lambda: call(client, 24))][1])
    for number, method in enumerate(("fork", "spawn", "forkserver")):
        with mp.get_context(method).Pool(2) as pool:
            parts = pool.starmap(call, [(client, 30 + 2 * number), (client, 31 + 2 * number)], chunksize=1)
            found |= {f"pool {method} {i}": part for i, part in enumerate(parts)}
    with ProcessPoolExecutor(1, mp.get_context("fork")) as executor:
        found["executor"] = executor.submit(call, client, 40).result(60)
    copied = pickle.loads(pickle.dumps(inherited))  # noqa: S301
    found["async pickled"] = asyncio.run(call_async(copied, 41))
    found["parent again"] = call(client, 50)
    client.close()
    found["closed"] = in_child(lambda: call(client, 60))
    return found


def ids(client: sdk.Client) -> list[str]:
    return [hit.id for hit in client.search(SEQUENCE, k=3)]


def of_store(store: str, model: str) -> dict[str, Any]:
    import torch

    from unirna import model as models
    from unirna import vectorstore

    torch.set_num_threads(2)
    warnings.filterwarnings("ignore", message="lance is not fork-safe")
    client = sdk.connect(store, model=model)
    inherited = sdk.connect_async(store, model=model)
    collection, encoder = vectorstore.open(store, "c"), models.load(model)
    vector = encoder.embed([SEQUENCE] * 40)
    found: dict[str, Any] = {"parent": ids(client)}
    found["fork"] = in_child(lambda: ids(client))
    found["async fork"] = in_child(lambda: asyncio.run(inherited.collections()))
    found["collection"] = in_child(lambda: collection.info)
    found["open"] = in_child(lambda: len(vectorstore.open(store, "c")))
    found["connect"] = in_child(lambda: ids(sdk.connect(store, model=model)))
    found["model"] = in_child(lambda: bool((abs(encoder.embed([SEQUENCE] * 40) - vector) < 1e-5).all()))
    with ProcessPoolExecutor(1, mp.get_context("fork")) as executor:  # the client is pickled, and so is the error
        found["executor fork"] = repr(executor.submit(ids, client).exception(60))
    with ProcessPoolExecutor(1, mp.get_context("spawn")) as executor:
        found["executor spawn"] = executor.submit(ids, client).result(120)
    return found


if __name__ == "__main__":
    print(json.dumps({"http": http, "store": of_store}[sys.argv[1]](*sys.argv[2:])))
