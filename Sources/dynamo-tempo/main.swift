// dynamo-tempo: a trace store in one process, for what several processes send.

import Glibc

exit(TempoProcess.run(Array(CommandLine.arguments.dropFirst())))
