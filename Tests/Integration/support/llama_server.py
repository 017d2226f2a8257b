"""Runs the HTTP server inside the xllamacpp wheel until it is told to stop: MODEL_FILE PORT ALIAS."""

import signal
import sys
import threading

import xllamacpp


def main() -> None:
    path, port, alias = sys.argv[1:4]
    params = xllamacpp.CommonParams()
    params.model.path = path
    params.hostnames = ["127.0.0.1"]
    params.port = int(port)
    params.n_ctx = 8192
    params.n_parallel = 2
    # One thread: with more, busy cores make the engine's spin barriers slower than working alone.
    params.cpuparams.n_threads = 1
    params.cpuparams_batch.n_threads = 1
    params.endpoint_metrics = True
    params.endpoint_props = True
    params.use_jinja = True
    params.warmup = False
    params.model_alias = {alias} if isinstance(params.model_alias, set) else [alias]
    server = xllamacpp.Server(params)  # serves as long as it is referenced
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    stop.wait()
    del server


if __name__ == "__main__":
    main()
