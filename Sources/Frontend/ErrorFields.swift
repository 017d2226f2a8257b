// The header fields that go with an error, whichever exchange answers with it.

internal import Base
internal import HTTP
internal import OpenAI

extension APIError {
  /// Appends what the error's answer says in its head, its content type first.
  func appendFields(to fields: inout ByteBuffer) {
    fields.append("content-type: application/json\r\n" as StaticString)
    // Messages repeat what the caller sent: no browser may take one for a page.
    fields.append("x-content-type-options: nosniff\r\n" as StaticString)
    if let seconds = retryAfterSeconds { fields.header("retry-after", seconds) }
    if let allow { fields.header("allow", text: allow) }
    // RFC 9110 section 11.6.1: a 401 says by what scheme to come again.
    if status == 401 { fields.append("www-authenticate: Bearer\r\n" as StaticString) }
  }
}
