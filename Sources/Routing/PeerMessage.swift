// What frontends send each other, as bytes: little-endian, each message whole in one frame.
//
//     message = "DYNR" version kind incarnation:u64 sequence:u64 (load | prompts)
//     load    = full:u8 models:u16 { name rows:u32 { worker:u64 requests:u32 blocks:u32 prefillTokens:u32 } }
//     prompts = hashing:u8 name prompts:u32 { worker:u64 blockSize:u32 blocks:u32 { hash:u64 } }
//     name    = bytes:u16 UTF-8

/// One message of a frontend to the others.
package struct PeerMessage: Sendable, Equatable {
  /// What a frontend booked on workers of one model.
  package struct ModelLoad: Sendable, Equatable {
    package var model: String
    package var rows: [PeerShare.Row]

    package init(model: String, rows: [PeerShare.Row]) {
      self.model = model
      self.rows = rows
    }
  }

  /// What it tells.
  package enum Body: Sendable, Equatable {
    /// What is booked now on the workers named; with `isFull` nothing is booked on any other.
    case load(isFull: Bool, [ModelLoad])
    /// Prompts of one model that were sent to workers. `ofTokens`: hashed by their tokens, not by their bytes.
    case prompts(model: String, ofTokens: Bool, PeerShare.Prompts)
  }

  /// Names the sending process: another number is another process, whose bookings are its own.
  package var incarnation: UInt64
  /// One more than the sender's last message.
  package var sequence: UInt64
  package var body: Body

  package init(incarnation: UInt64, sequence: UInt64, body: Body) {
    self.incarnation = incarnation
    self.sequence = sequence
    self.body = body
  }

  /// What the first bytes of every message are, for subscriptions.
  package static let prefix = "DYNR"
  package static let version: UInt8 = 1
  /// Bytes of a model's name; a longer one is cut, and so is no model's that the receiver knows.
  package static let nameBytesMax = 256
  package static let modelsMax = 1_024
  /// Workers of all models in one message.
  package static let rowsMax = 16_384
  /// Blocks of one prompt, the most that are hashed of any.
  package static let blocksMax = 32_768
  /// Bytes of the largest message that keeps these bounds, with room to spare.
  package static let bytesMax = 2 << 20
}

// MARK: Writing

extension PeerMessage {
  /// The message's bytes. Models and rows beyond the bounds are left out: ``omittedRows`` says how many.
  package func encoded() -> [UInt8] {
    var bytes = Array(Self.prefix.utf8)
    bytes.append(Self.version)
    switch body {
    case .load(let isFull, let models):
      bytes.append(1)
      bytes.append(little: incarnation)
      bytes.append(little: sequence)
      bytes.append(isFull ? 1 : 0)
      Self.append(models, to: &bytes)
    case .prompts(let model, let ofTokens, let prompts):
      bytes.append(2)
      bytes.append(little: incarnation)
      bytes.append(little: sequence)
      bytes.append(ofTokens ? 1 : 0)
      Self.append(name: model, to: &bytes)
      bytes.append(little: UInt32(clamping: prompts.prompts.count))
      for prompt in prompts.prompts {
        bytes.append(little: prompt.worker)
        bytes.append(little: UInt32(clamping: prompt.blockSize))
        bytes.append(little: UInt32(clamping: prompt.blocks.count))
        for hash in prompts.hashes[prompt.blocks] { bytes.append(little: hash) }
      }
    }
    return bytes
  }

  /// Rows that ``encoded()`` has no room for.
  package var omittedRows: Int {
    guard case .load(_, let models) = body else { return 0 }
    return models.reduce(0) { $0 + $1.rows.count }
      - min(Self.rowsMax, models.prefix(Self.modelsMax).reduce(0) { $0 + $1.rows.count })
  }

  private static func append(_ models: [ModelLoad], to bytes: inout [UInt8]) {
    let shown = models.prefix(modelsMax)
    var room = rowsMax
    bytes.append(little: UInt16(shown.count))
    for model in shown {
      let rows = model.rows.prefix(room)
      room -= rows.count
      append(name: model.model, to: &bytes)
      bytes.append(little: UInt32(rows.count))
      for row in rows {
        bytes.append(little: row.worker)
        bytes.append(little: UInt32(clamping: row.load.requests))
        bytes.append(little: UInt32(clamping: row.load.blocks))
        bytes.append(little: UInt32(clamping: row.load.prefillTokens))
      }
    }
  }

  private static func append(name: String, to bytes: inout [UInt8]) {
    let utf8 = name.utf8.prefix(nameBytesMax)
    bytes.append(little: UInt16(utf8.count))
    bytes.append(contentsOf: utf8)
  }
}

extension [UInt8] {
  fileprivate mutating func append(little value: some FixedWidthInteger) {
    for shift in stride(from: 0, to: value.bitWidth, by: 8) {
      append(UInt8(truncatingIfNeeded: value >> shift))
    }
  }
}

// MARK: Reading

extension PeerMessage {
  /// Reads a message. Nil for what is none: of another version, cut short, too long, with counts that cannot be.
  package init?(_ bytes: UnsafeRawBufferPointer) {
    var reader = LittleReader(bytes)
    guard bytes.count <= Self.bytesMax, reader.skip(Self.prefix), reader.byte() == Self.version,
      let kind = reader.byte(), let incarnation = reader.long(), let sequence = reader.long()
    else { return nil }
    let body: Body?
    switch kind {
    case 1: body = Self.readLoad(&reader)
    case 2: body = Self.readPrompts(&reader)
    default: body = nil
    }
    guard let body, reader.isAtEnd else { return nil }
    self.init(incarnation: incarnation, sequence: sequence, body: body)
  }

  private static func readLoad(_ reader: inout LittleReader) -> Body? {
    guard let isFull = reader.flag(), let count = reader.short(), count <= modelsMax else { return nil }
    var models: [ModelLoad] = []
    var room = rowsMax
    for _ in 0..<count {
      guard let name = reader.name(), let rowCount = reader.count(), rowCount <= room else { return nil }
      room -= rowCount
      var rows: [PeerShare.Row] = []
      for _ in 0..<rowCount {
        guard let worker = reader.long(), let requests = reader.count(), let blocks = reader.count(),
          let prefillTokens = reader.count()
        else { return nil }
        rows.append(
          PeerShare.Row(
            worker: worker,
            load: PeerLoad(requests: requests, blocks: blocks, prefillTokens: prefillTokens)))
      }
      models.append(ModelLoad(model: name, rows: rows))
    }
    return .load(isFull: isFull, models)
  }

  private static func readPrompts(_ reader: inout LittleReader) -> Body? {
    guard let ofTokens = reader.flag(), let name = reader.name(), let count = reader.count() else {
      return nil
    }
    var prompts = PeerShare.Prompts()
    for _ in 0..<count {
      guard let worker = reader.long(), let blockSize = reader.count(), blockSize > 0,
        let blocks = reader.count(), blocks <= blocksMax, reader.hasRoom(for: blocks)
      else { return nil }
      let first = prompts.hashes.count
      for _ in 0..<blocks {
        guard let hash = reader.long() else { return nil }
        prompts.hashes.append(hash)
      }
      prompts.prompts.append(
        PeerShare.Prompts.Prompt(worker: worker, blockSize: blockSize, blocks: first..<first + blocks))
    }
    return .prompts(model: name, ofTokens: ofTokens, prompts)
  }
}

/// Reads numbers from bytes, and nothing behind their end.
private struct LittleReader {
  private let bytes: UnsafeRawBufferPointer
  private var offset = 0

  init(_ bytes: UnsafeRawBufferPointer) { self.bytes = bytes }

  var isAtEnd: Bool { offset == bytes.count }

  /// Whether as many hashes may follow.
  func hasRoom(for hashes: Int) -> Bool { hashes <= (bytes.count - offset) / 8 }

  mutating func skip(_ text: String) -> Bool {
    for byte in text.utf8 where self.byte() != byte { return false }
    return true
  }

  private mutating func number<Number: FixedWidthInteger>(_ type: Number.Type) -> Number? {
    let size = MemoryLayout<Number>.size
    guard bytes.count - offset >= size else { return nil }
    defer { offset += size }
    return Number(littleEndian: bytes.loadUnaligned(fromByteOffset: offset, as: Number.self))
  }

  mutating func byte() -> UInt8? { number(UInt8.self) }
  mutating func short() -> Int? { number(UInt16.self).map { Int($0) } }
  mutating func count() -> Int? { number(UInt32.self).map { Int($0) } }
  mutating func long() -> UInt64? { number(UInt64.self) }

  mutating func flag() -> Bool? {
    switch byte() {
    case 0: false
    case 1: true
    default: nil
    }
  }

  mutating func name() -> String? {
    guard let size = short(), size <= PeerMessage.nameBytesMax, bytes.count - offset >= size else {
      return nil
    }
    defer { offset += size }
    return String(decoding: UnsafeRawBufferPointer(rebasing: bytes[offset..<offset + size]), as: UTF8.self)
  }
}
