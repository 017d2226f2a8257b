// What `dynamo-bench tokenize` does: encodes lines for comparison with other implementations, or measures.

import Base
import CSystem
import Glibc
import JSON
import Tokenizer

/// A tokenizer loaded from a model's folder, with the ways to use it from the command line.
struct TokenizeRun {
  let tokenizer: Tokenizer

  /// Loads `tokenizer.json` of the folder at `path`.
  init(folder path: String) throws {
    guard let bytes = readFile(path + "/tokenizer.json", limit: TokenizerLimits.fileBytesMax) else {
      throw TokenizeFailure(description: "cannot read \(path)/tokenizer.json")
    }
    do {
      tokenizer = try bytes.withUnsafeBytes { bytes throws(TokenizerError) in try Tokenizer(json: bytes) }
    } catch let error as TokenizerError {
      throw TokenizeFailure(description: "\(path)/tokenizer.json: \(error.explanation)")
    }
  }

  // MARK: Lines

  /// Answers each JSON line on standard input with one on standard output: a string with its ids; an object with `text`
  /// and `special` with the ids and the file's own special tokens; an object with `ids` with their text.
  func answerLines(cached: Bool) throws {
    let cache = cached ? EncodedPrefixCache(seed: 1) : nil
    let encoder = TextEncoder(tokenizer, prefixCache: cache)
    var pending: [UInt8] = []
    var chunk = [UInt8](repeating: 0, count: 1 << 16)
    while true {
      let got = read(0, &chunk, chunk.count)
      guard got > 0 else { break }
      pending.append(contentsOf: chunk[0..<got])
      var start = 0
      while let end = pending[start...].firstIndex(of: UInt8(ascii: "\n")) {
        try pending[start..<end].withUnsafeBytes { say(try answer($0, encoder) + "\n") }
        start = end + 1
      }
      pending.removeFirst(start)
    }
  }

  private func answer(_ line: UnsafeRawBufferPointer, _ encoder: TextEncoder) throws -> String {
    let request = try JSONValue.parse(line, valuesMax: 1 << 22)
    if let ids = request["ids"]?.array {
      let text = tokenizer.decode(
        ids.compactMap { $0.integer.flatMap(UInt32.init(exactly:)) },
        skipSpecialTokens: request["skip_special"]?.bool ?? false)
      var buffer = ByteBuffer()
      buffer.append(jsonString: text)
      return buffer.readable.text
    }
    let special = request["special"]?.bool ?? false
    guard let text = request.string ?? request["text"]?.string else { return "null" }
    let ids = try encoder.encode(text, addSpecialTokens: special)
    return "[" + ids.map(String.init).joined(separator: ",") + "]"
  }

  // MARK: Measuring

  /// Encodes the file at `path` in several ways and prints megabytes a second.
  func measure(_ path: String, loadMilliseconds: Double) throws {
    guard let text = readFile(path, limit: 1 << 28), !text.isEmpty else {
      throw TokenizeFailure(description: "cannot read \(path)")
    }
    say("load: \(rounded(loadMilliseconds)) ms, resident \(rounded(residentMiB())) MiB\n")
    // Fresh: an encoder that has met nothing.
    let cold = MeasuredEncoder(TextEncoder(tokenizer), text)
    report("cold encoder, whole text", bytes: text.count, try fastest(of: 1) { try cold.run() })
    let perToken = Double(text.count) / Double(max(cold.count, 1))
    say("tokens: \(cold.count), \(rounded(perToken)) bytes each\n")
    report("warm encoder, whole text", bytes: text.count, try fastest(of: 5) { try cold.run() })
    try measurePrompts(text, cold.encoder)
    say("resident \(rounded(residentMiB())) MiB\n")
  }

  private func measurePrompts(_ text: [UInt8], _ warm: TextEncoder) throws {
    let size = 32 * 1024
    guard text.count >= size else { return }
    var end = size
    while end < text.count, text[end] & 0xc0 == 0x80 { end += 1 }
    let prompt = Array(text[0..<end])
    let cold = MeasuredEncoder(TextEncoder(tokenizer), prompt)
    report("32 KiB, cold encoder", bytes: end, try fastest(of: 1) { try cold.run() })
    let repeated = MeasuredEncoder(warm, prompt)
    report("32 KiB, warm encoder", bytes: end, try fastest(of: 20) { try repeated.run() })
    let cached = MeasuredEncoder(TextEncoder(tokenizer, prefixCache: EncodedPrefixCache(seed: 1)), prompt)
    try cached.run()
    report("32 KiB, prefix cached", bytes: end, try fastest(of: 20) { try cached.run() })
  }

  /// The shortest time of several runs, in seconds.
  private func fastest(of count: Int, _ body: () throws -> Void) throws -> Double {
    var best = Double.infinity
    for _ in 0..<count {
      let start = processorSeconds()
      try body()
      best = min(best, processorSeconds() - start)
    }
    return best
  }

  private func report(_ name: String, bytes: Int, _ seconds: Double) {
    let rate = rounded(Double(bytes) / seconds / 1e6)
    say("\(name): \(rate) MB/s, \(rounded(seconds * 1e6)) us\n")
  }

  private func rounded(_ value: Double) -> String { ((value * 10).rounded() / 10).description }
}

/// An encoder with a text and a place for its ids.
private final class MeasuredEncoder {
  let encoder: TextEncoder
  private let text: UnsafeMutableRawBufferPointer
  private var ids: TokenIDs
  private(set) var count = 0

  init(_ encoder: TextEncoder, _ text: [UInt8]) {
    self.encoder = encoder
    self.text = .allocate(byteCount: text.count, alignment: 1)
    self.text.copyBytes(from: text)
    ids = TokenIDs(capacity: text.count)
  }

  deinit { text.deallocate() }

  func run() throws(TokenizerError) {
    ids.removeAll()
    try encoder.encode(UnsafeRawBufferPointer(text), into: &ids)
    count = ids.count
  }
}

/// What stopped the command.
struct TokenizeFailure: Error, CustomStringConvertible {
  let description: String
}

/// Processor time of this thread in seconds: what other processes do does not count.
func processorSeconds() -> Double {
  var time = timespec()
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time)
  return Double(time.tv_sec) + Double(time.tv_nsec) / 1e9
}

/// Resident memory of this process in MiB, by /proc.
func residentMiB() -> Double {
  guard let status = readFile("/proc/self/statm") else { return 0 }
  let fields = String(decoding: status, as: UTF8.self).split(separator: " ")
  return fields.count > 1 ? Double(Int(fields[1]) ?? 0) * Double(getpagesize()) / 1_048_576 : 0
}
