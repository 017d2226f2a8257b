// Inference requests and stream chunks: edits keep a body valid, and remembered patterns change no verdict.

import Base
import OpenAI

private func request(_ bytes: UnsafeRawBufferPointer, _ endpoint: Endpoint) -> InferenceRequest? {
  do throws(APIError) {
    return try InferenceRequest.parse(bytes, endpoint: endpoint)
  } catch {
    require((400..<500).contains(error.status), "a bad body is the caller's fault")
    return nil
  }
}

private func body(_ bytes: UnsafeRawBufferPointer, _ endpoint: Endpoint) {
  guard let parsed = request(bytes, endpoint) else { return }
  var canonical = ByteBuffer()
  parsed.canonical(of: bytes, into: &canonical)
  if let slice = parsed.canonicalSlice(of: bytes) {
    require(slice.equals(canonical.readable), "both canonical forms are equal")
  }
  guard let edit = parsed.usageEdit else { return }
  var edited = ByteBuffer()
  edit.write(bytes, into: &edited)
  let again = exactly(edited.readable) { request($0, endpoint) }
  require(again?.includeUsage == true && again?.usageEdit == nil, "an edited body asks for usage")
}

private func chunks(_ bytes: UnsafeRawBufferPointer) {
  var inspector = ChunkInspector()
  var start = 0
  while start < bytes.count {
    var end = start
    while end < bytes.count, bytes[end] != UInt8(ascii: "\n") { end += 1 }
    exactly(bytes.slice(start..<end)) { line in
      var fresh = ChunkInspector()
      let kind = inspector.inspect(line)
      switch (kind, fresh.inspect(line)) {
      // The text between remembered bytes is not read again, so that a bad escape in it goes unseen.
      case (.token, .other): break
      case (let remembered, let read):
        require(remembered.rawValue == read.rawValue, "what came before changes no verdict")
      }
    }
    start = end + 1
  }
}

@_cdecl("LLVMFuzzerTestOneInput")
func fuzzOpenAI(_ data: UnsafePointer<UInt8>?, _ size: Int) -> Int32 {
  guard let (steer, input) = steered(data, size) else { return 0 }
  switch steer % 3 {
  case 0: exactly(input) { body($0, .chatCompletions) }
  case 1: exactly(input) { body($0, .completions) }
  default: chunks(input)
  }
  return 0
}
