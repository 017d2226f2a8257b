// Writes batches of cache events as vLLM 0.32 does, for the simulated engine.

package import Base

/// A LoRA adapter as vLLM numbers and names it.
package struct CacheEventAdapter: Sendable, Equatable {
  package let id: Int
  package let name: String

  /// An adapter; `id` is 1 or more.
  package init(id: Int, name: String) {
    precondition(id > 0, "vLLM numbers adapters from 1")
    self.id = id
    self.name = name
  }
}

/// Gathers the events of one scheduler step; ``CacheEventPublisher`` sends them. The bytes are those of vLLM 0.32's
/// classes: maps, fields in the classes' order, those with their default left out.
package struct CacheEventEncoder: ~Copyable {
  private var events = ByteBuffer()
  /// Number of events that wait.
  package private(set) var count = 0

  /// An encoder without events.
  package init() {}

  /// Blocks came in, each the child of the one before it.
  ///
  /// - Parameters:
  ///   - hashes: the blocks' hashes.
  ///   - parent: hash of the block before the first; nil at a prompt's begin.
  ///   - tokens: `blockSize` for each block.
  ///   - salt: cache salt of the prompt; written on its first block, so only when `parent` is nil.
  package mutating func stored(
    hashes: [UInt64], parent: UInt64?, tokens: [UInt32], blockSize: Int, adapter: CacheEventAdapter? = nil,
    salt: String? = nil
  ) {
    precondition(tokens.count == hashes.count * blockSize, "blocks are full")
    count += 1
    MessagePackWriter.map(11, to: &events)
    key("type", text: "BlockStored")
    key("block_hashes", hashes: hashes)
    key("parent_block_hash")
    if let parent {
      MessagePackWriter.unsigned(parent, to: &events)
    } else {
      MessagePackWriter.none(to: &events)
    }
    key("token_ids")
    MessagePackWriter.array(tokens.count, to: &events)
    for token in tokens { MessagePackWriter.unsigned(UInt64(token), to: &events) }
    key("block_size")
    MessagePackWriter.unsigned(UInt64(blockSize), to: &events)
    key("lora_id")
    if let adapter {
      MessagePackWriter.unsigned(UInt64(adapter.id), to: &events)
    } else {
      MessagePackWriter.none(to: &events)
    }
    key("medium", text: "GPU")
    key("lora_name", text: adapter?.name)
    key("extra_keys")
    MessagePackWriter.array(hashes.count, to: &events)
    for index in hashes.indices {
      let salt = index == 0 && parent == nil ? salt : nil
      let keys = [adapter?.name, salt].compactMap { $0 }
      if keys.isEmpty {
        MessagePackWriter.none(to: &events)
      } else {
        MessagePackWriter.array(keys.count, to: &events)
        for text in keys { MessagePackWriter.text(text, to: &events) }
      }
    }
    key("group_idx")
    MessagePackWriter.unsigned(0, to: &events)
    key("kv_cache_spec_kind", text: "full_attention")
  }

  /// Blocks went out.
  package mutating func removed(hashes: [UInt64]) {
    count += 1
    MessagePackWriter.map(4, to: &events)
    key("type", text: "BlockRemoved")
    key("block_hashes", hashes: hashes)
    key("medium", text: "GPU")
    key("group_idx")
    MessagePackWriter.unsigned(0, to: &events)
  }

  /// The whole cache was reset.
  package mutating func cleared() {
    count += 1
    MessagePackWriter.map(1, to: &events)
    key("type", text: "AllBlocksCleared")
  }

  /// Writes the batch of all events since the last one to the end of `out`, and begins the next.
  ///
  /// - Parameters:
  ///   - timestamp: seconds since 1970.
  ///   - rank: data parallel rank of the engine.
  package mutating func finish(timestamp: Double, rank: Int, into out: inout ByteBuffer) {
    precondition(rank >= 0, "ranks count from 0")
    MessagePackWriter.array(3, to: &out)
    MessagePackWriter.double(timestamp, to: &out)
    MessagePackWriter.array(count, to: &out)
    out.append(events.readable)
    MessagePackWriter.unsigned(UInt64(rank), to: &out)
    events.removeAll()
    count = 0
  }

  private mutating func key(_ name: String) { MessagePackWriter.text(name, to: &events) }

  private mutating func key(_ name: String, text: String?) {
    key(name)
    if let text {
      MessagePackWriter.text(text, to: &events)
    } else {
      MessagePackWriter.none(to: &events)
    }
  }

  private mutating func key(_ name: String, hashes: [UInt64]) {
    key(name)
    MessagePackWriter.array(hashes.count, to: &events)
    for hash in hashes { MessagePackWriter.unsigned(hash, to: &events) }
  }
}
