// Tokenizers: hostile files are refused or loaded, never worse; texts encode the same cached and not, and come back.

import Base
import Tokenizer

/// Byte-level letters of all bytes, and merges that make runs of letters and spaces.
private let vocabulary: (entries: String, merges: String) = {
  var letters: [String] = []
  var others: UInt32 = 256
  for byte in UInt32(0)..<256 {
    let isPlain = (33...126).contains(byte) || (161...172).contains(byte) || byte >= 174
    let code = isPlain ? byte : others
    if !isPlain { others += 1 }
    let digits = String(code, radix: 16)
    letters.append("\\u" + String(repeating: "0", count: 4 - digits.utf8.count) + digits)
  }
  let pairs = [
    ("e", "r"), ("t", "h"), ("a", "a"), ("aa", "aa"), ("th", "er"), ("0", "0"), ("\\u0120", "\\u0120"),
  ]
  let merged = pairs.map { $0.0 + $0.1 }
  let entries = (letters + merged).enumerated().map { "\"\($0.element)\":\($0.offset)" }
  let merges = pairs.map { "[\"\($0.0)\",\"\($0.1)\"]" }
  return (entries.joined(separator: ","), merges.joined(separator: ","))
}()

private let contractions = "(?i:'s|'t|'re|'ve|'m|'ll|'d)"
private let cased =
  #"[^\\r\\n\\p{L}\\p{N}]?[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]*[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]+"#
  + #"|[^\\r\\n\\p{L}\\p{N}]?[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]+[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]*|\\p{N}"#
  + #"| ?[^\\s\\p{L}\\p{N}]+[\\r\\n/]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"#
private let patterns = [
  contractions
    + #"|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"#,
  contractions
    + #"|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"#,
  cased,
]

private func file(regex: String?, normalizer: String) -> String {
  let split = regex.map {
    "{\"type\":\"Split\",\"pattern\":{\"Regex\":\"\($0)\"},\"behavior\":\"Isolated\",\"invert\":false},"
  }
  return """
    {"added_tokens":[{"id":263,"content":"<x>","special":true,"normalized":false},{"id":264,"content":"né","lstrip":true,\
    "rstrip":true,"normalized":true},{"id":265,"content":"the","single_word":true,"normalized":false}],\
    "normalizer":\(normalizer),"pre_tokenizer":{"type":"Sequence","pretokenizers":[\(split ?? "")\
    {"type":"ByteLevel","add_prefix_space":false,"use_regex":\(regex == nil)}]},"post_processor":null,\
    "decoder":{"type":"ByteLevel"},"model":{"type":"BPE","vocab":{\(vocabulary.entries)},"merges":[\(vocabulary.merges)]}}
    """
}

private func load(_ text: String) -> Tokenizer? {
  let bytes = Array(text.utf8)
  return bytes.withUnsafeBytes { bytes in exactly(bytes) { bytes in try? Tokenizer(json: bytes) } }
}

private let tokenizers: [Tokenizer] = {
  var files = patterns.map { file(regex: $0, normalizer: "null") }
  files.append(file(regex: nil, normalizer: "null"))
  files.append(file(regex: patterns[0], normalizer: "{\"type\":\"NFC\"}"))
  let loaded = files.compactMap(load)
  require(loaded.count == files.count, "the small models load")
  return loaded
}()

private let cache = EncodedPrefixCache(bytesMax: 1 << 20, seed: 1)

@_cdecl("LLVMFuzzerTestOneInput")
func fuzzTokenizer(_ data: UnsafePointer<UInt8>?, _ size: Int) -> Int32 {
  guard let (steer, bytes) = steered(data, size) else { return 0 }
  if steer % 8 == 7 {
    // The input is a file.
    exactly(bytes) { bytes in _ = try? Tokenizer(json: bytes) }
    exactly(bytes) { bytes in _ = try? TokenizerConfig(json: bytes) }
    return 0
  }
  let number = steer % tokenizers.count
  let tokenizer = tokenizers[number]
  let text = String(decoding: bytes, as: UTF8.self)
  let plain = TextEncoder(tokenizer)
  let cached = TextEncoder(tokenizer, prefixCache: cache)
  guard let ids = try? plain.encode(text) else { preconditionFailure("valid UTF-8 encodes") }
  require((try? plain.encode(text)) == ids, "the piece cache changes nothing")
  require((try? cached.encode(text)) == ids, "the prefix cache changes nothing")
  require((try? cached.encode(text)) == ids, "what the prefix cache holds is right")
  // Added tokens that strip lose white space, and NFC changes text.
  if number != 4, !text.contains("n\u{e9}") {
    require(Array(tokenizer.decode(ids).utf8) == Array(text.utf8), "no byte is lost")
  }
  var output = TokenIDs()
  exactly(bytes) { bytes in _ = try? plain.encode(bytes, into: &output) }
  return 0
}
