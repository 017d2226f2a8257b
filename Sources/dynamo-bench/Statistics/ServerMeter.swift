// The cost of a phase in the server's process tree.

import Base

/// What a server spent on a phase.
struct ServerCost {
  var cpu: CPUTime
  var instructions: InstructionCount?
  var memory: ResidentMemory
}

/// Takes readings of a process tree when made and when read.
final class ServerMeter {
  private let tree: ProcessTree
  private let before: CPUTime
  private let counter: InstructionCounter
  private let instructionsBefore: InstructionCount?

  init(_ process: Int32) {
    tree = ProcessTree(root: process)
    counter = InstructionCounter(tree)
    before = tree.cpuTime
    instructionsBefore = counter.read()
  }

  /// What was spent since the meter was made; nil when the process is gone.
  func read() -> ServerCost? {
    let instructions = counter.read()
    let after = tree.cpuTime
    guard !tree.members.isEmpty else { return nil }
    var spent: InstructionCount?
    if let instructions, let instructionsBefore {
      spent = InstructionCount(
        user: instructions.user - instructionsBefore.user,
        kernel: instructions.kernel - instructionsBefore.kernel)
    }
    return ServerCost(cpu: after - before, instructions: spent, memory: tree.memory)
  }
}
