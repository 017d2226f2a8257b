// dynamo-worker: an engine, simulated or attached, registered, traced and served to dynamo-frontend.

import Glibc

exit(WorkerProcess.run(Array(CommandLine.arguments.dropFirst())))
