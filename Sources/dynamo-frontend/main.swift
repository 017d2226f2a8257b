// dynamo-frontend: an OpenAI-compatible frontend that routes to the worker that already caches the prompt.

import Glibc

exit(FrontendProcess.run(Array(CommandLine.arguments.dropFirst())))
