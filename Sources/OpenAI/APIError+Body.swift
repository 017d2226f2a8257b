// Error bodies on the wire: OpenAI's envelope, Dynamo's flat object, and the form inside a stream.

package import Base
internal import JSON

/// Which shape error bodies have (`DYN_ERROR_FORMAT`).
package enum ErrorFormat: UInt8, Sendable {
  /// `{"error":{"message","type","param","code"}}`, what OpenAI's SDKs read.
  case openAI

  /// `{"message","type","code"}` with the reason phrase as type and the status as code, as Dynamo answers.
  case dynamo

  /// `{"type":"error","error":{"type","message"}}`, what Anthropic's SDKs read.
  case anthropic
}

extension APIError {
  /// Appends the error as a JSON body.
  package func write(into buffer: inout ByteBuffer, format: ErrorFormat = .openAI) {
    switch format {
    case .openAI:
      buffer.append("{\"error\":{\"message\":" as StaticString)
      buffer.append(jsonString: message)
      buffer.append(",\"type\":" as StaticString)
      buffer.append(jsonString: type)
      buffer.append(",\"param\":" as StaticString)
      append(param, to: &buffer)
      buffer.append(",\"code\":" as StaticString)
      append(code, to: &buffer)
      buffer.append("}}" as StaticString)
    case .dynamo:
      buffer.append("{\"message\":" as StaticString)
      buffer.append(jsonString: message)
      buffer.append(",\"type\":\"" as StaticString)
      buffer.append(APIError.reasonPhrase(status))
      buffer.append("\",\"code\":" as StaticString)
      buffer.append(decimal: status)
      buffer.append("}" as StaticString)
    case .anthropic:
      buffer.append("{\"type\":\"error\",\"error\":{\"type\":\"" as StaticString)
      buffer.append(APIError.anthropicType(status))
      buffer.append("\",\"message\":" as StaticString)
      buffer.append(jsonString: message)
      buffer.append("}}" as StaticString)
    }
  }

  /// Anthropic's class of error for a status.
  package static func anthropicType(_ status: Int) -> StaticString {
    switch status {
    case 401: "authentication_error"
    case 403: "permission_error"
    case 404: "not_found_error"
    case 413: "request_too_large"
    case 429: "rate_limit_error"
    case 504: "timeout_error"
    case 503, 529: "overloaded_error"
    case 500...: "api_error"
    default: "invalid_request_error"
    }
  }

  /// Appends the error as the last events of a stream that has begun. In a stream of chunks: OpenAI's envelope, then
  /// `[DONE]`; SDKs raise on the first and stop at the second. In one of typed events: the API's `error` event, which in
  /// the Responses API has the number `sequence`.
  package func writeEvents(into buffer: inout ByteBuffer, form: AnswerForm = .chat, sequence: Int = 0) {
    switch form {
    case .chat, .plain:
      buffer.append("data: " as StaticString)
      write(into: &buffer)
      buffer.append("\n\ndata: [DONE]\n\n" as StaticString)
    case .responses:
      buffer.append("event: error\ndata: {\"type\":\"error\",\"sequence_number\":" as StaticString)
      buffer.append(decimal: sequence)
      buffer.append(",\"code\":" as StaticString)
      append(code, to: &buffer)
      buffer.append(",\"message\":" as StaticString)
      buffer.append(jsonString: message)
      buffer.append(",\"param\":" as StaticString)
      append(param, to: &buffer)
      buffer.append("}\n\n" as StaticString)
    case .messages:
      buffer.append("event: error\ndata: " as StaticString)
      write(into: &buffer, format: .anthropic)
      buffer.append("\n\n" as StaticString)
    }
  }

  private func append(_ text: String?, to buffer: inout ByteBuffer) {
    if let text { buffer.append(jsonString: text) } else { buffer.append("null" as StaticString) }
  }

  /// The reason phrase of a status that this server answers with (RFC 9110 section 15).
  package static func reasonPhrase(_ status: Int) -> StaticString {
    switch status {
    case 400: "Bad Request"
    case 401: "Unauthorized"
    case 403: "Forbidden"
    case 404: "Not Found"
    case 405: "Method Not Allowed"
    case 408: "Request Timeout"
    case 413: "Payload Too Large"
    case 414: "URI Too Long"
    case 415: "Unsupported Media Type"
    case 417: "Expectation Failed"
    case 429: "Too Many Requests"
    case 431: "Request Header Fields Too Large"
    case 499: "Client Closed Request"
    case 500: "Internal Server Error"
    case 501: "Not Implemented"
    case 502: "Bad Gateway"
    case 503: "Service Unavailable"
    case 504: "Gateway Timeout"
    case 505: "HTTP Version Not Supported"
    case 529: "Site is overloaded"
    default: "Unknown"
    }
  }
}
