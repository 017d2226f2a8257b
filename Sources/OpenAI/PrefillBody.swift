// A request in two parts, one worker reading its prompt and another generating: the bodies of both, and the answer that
// joins them. The names are vLLM's (`kv_transfer_params`).

package import Base
internal import JSON

extension InferenceRequest {
  /// What asks an engine to keep the blocks of a prompt for another one.
  private static let askForTransfer: StaticString =
    "\"kv_transfer_params\":{\"do_remote_decode\":true,\"do_remote_prefill\":false,\"remote_engine_id\":null,\"remote_block_ids\":null,\"remote_host\":null,\"remote_port\":null}"

  /// Whether one worker may read the prompt and another generate. Not where the request asks for several answers, or for
  /// something of its prompt's tokens, or is a part already.
  package func isDivisible(_ body: UnsafeRawBufferPointer) -> Bool {
    guard choices == 1 else { return false }
    switch promptKind {
    case .none, .text, .tokens: break
    case .texts, .tokenLists: return false
    }
    var scanner = JSONScanner(body)
    do throws(JSONError) {
      try scanner.openObject()
      while let key = try scanner.nextKey() {
        let name = key.decoded(in: body)
        if Self.isIndivisible(name, body.slice(try scanner.skipValue())) { return false }
      }
      return true
    } catch {
      return false
    }
  }

  /// Appends the part of `body`, an object, that has an engine read the prompt and no more: one token is generated, and
  /// no stream.
  package static func writePrefill(of body: UnsafeRawBufferPointer, into output: inout ByteBuffer) {
    var copied = 0
    var end = 0
    var hasLimit = false
    var scanner = JSONScanner(body)
    do throws(JSONError) {
      try scanner.openObject()
      while let key = try scanner.nextKey() {
        let name = key.decoded(in: body)
        let value = try scanner.skipValue()
        guard let replacement = replacement(of: name) else { continue }
        if name == "max_tokens" { hasLimit = true }
        output.append(body.slice(copied..<value.lowerBound))
        output.append(replacement)
        copied = value.upperBound
      }
      end = scanner.offset - 1
    } catch {
      // It was read before: what is no object never comes here.
      return
    }
    output.append(body.slice(copied..<end))
    output.append(hasLimit ? "," as StaticString : ",\"max_tokens\":1,")
    output.append(askForTransfer)
    output.append(body.slice(end..<body.count))
  }

  /// What stands in the prompt's part for what the caller gave. vLLM refuses `stream_options` without a stream, and more
  /// `min_tokens` than tokens.
  private static func replacement(of name: String) -> StaticString? {
    switch name {
    case "stream": "false"
    case "stream_options": "null"
    case "max_tokens", "max_completion_tokens": "1"
    case "min_tokens": "0"
    default: nil
    }
  }

  /// Whether this has the request done by one worker.
  private static func isIndivisible(_ name: String, _ value: UnsafeRawBufferPointer) -> Bool {
    switch name {
    case "kv_transfer_params", "bootstrap_host", "bootstrap_port", "bootstrap_room": true
    case "best_of": !value.equals("1") && !value.equals("null")
    case "echo", "prompt_logprobs", "use_beam_search", "return_token_ids":
      !value.equals("false") && !value.equals("null")
    default: false
    }
  }

  /// Appends `text`, the request's body as edited otherwise, with where its prompt's blocks are. No edit is behind the
  /// closing brace.
  ///
  /// - Parameters:
  ///   - bodyBytes: length of the body in which ``closingBrace`` is a position.
  ///   - transfer: what the engine that read the prompt said of them.
  package func writeDecode(
    _ text: UnsafeRawBufferPointer, bodyBytes: Int, transfer: UnsafeRawBufferPointer,
    into output: inout ByteBuffer
  ) {
    let brace = text.count - (bodyBytes - closingBrace)
    output.append(text.slice(0..<brace))
    output.append(",\"kv_transfer_params\":" as StaticString)
    output.append(transfer)
    output.append(text.slice(brace..<text.count))
  }
}

/// What an engine answered that only read a prompt.
package struct PrefillAnswer: Sendable, Equatable {
  /// Where the prompt's blocks are: the object `kv_transfer_params`, for the engine that generates.
  package let transfer: Range<Int>
  package let usage: Usage?

  /// Nil where the answer is no JSON object, or does not say where the blocks are.
  package init?(_ answer: UnsafeRawBufferPointer) {
    var transfer: Range<Int>?
    var scanner = JSONScanner(answer)
    do throws(JSONError) {
      guard try scanner.objectOrSkip() else { return nil }
      while let key = try scanner.nextKey() {
        let isObject = try scanner.kind() == .object
        let value = try scanner.skipValue()
        if isObject, key.equals("kv_transfer_params", in: answer) { transfer = value }
      }
      try scanner.finish()
    } catch {
      return nil
    }
    guard let transfer else { return nil }
    self.transfer = transfer
    usage = AnswerSummary.parse(answer)?.usage
  }
}

/// `kv_transfer_params` as an engine reads them.
package struct TransferWish: Sendable, Equatable {
  /// The prompt's blocks are to be kept for another engine (`do_remote_decode`).
  package let isForOthers: Bool
  /// The engine that has them (`do_remote_prefill`); nil where nobody has.
  package let engine: String?
  /// Its names of the prompt's blocks, the first ones first.
  package let blocks: [Int]

  /// Block names that are read; the longest prompts have fewer.
  private static let blocksMax = 1 << 20

  /// Nil where the body asks for no transfer.
  package init?(_ body: UnsafeRawBufferPointer) {
    var scanner = JSONScanner(body)
    var found: Range<Int>?
    do throws(JSONError) {
      guard try scanner.objectOrSkip() else { return nil }
      while let key = try scanner.nextKey() {
        let value = try scanner.skipValue()
        if key.equals("kv_transfer_params", in: body) { found = value }
      }
    } catch {
      return nil
    }
    guard let found,
      let json = try? JSONValue.parse(body.slice(found), valuesMax: Self.blocksMax), json.members != nil
    else { return nil }
    isForOthers = json["do_remote_decode"]?.bool ?? false
    let isRemote = json["do_remote_prefill"]?.bool ?? false
    guard isForOthers || isRemote else { return nil }
    engine = isRemote ? json["remote_engine_id"]?.string : nil
    blocks = isRemote ? json["remote_block_ids"]?.array?.compactMap(\.integer) ?? [] : []
  }
}
