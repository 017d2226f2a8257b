// Errors that the frontend itself answers with: one constructor for each case of the product's table.

package import JSON

/// An error answer: HTTP status plus what OpenAI's envelope says.
package struct APIError: Error, Sendable, Equatable {
  /// HTTP status.
  package let status: Int

  /// Machine-readable cause, such as `invalid_json`.
  package let code: String?

  /// The field of the request that is at fault, such as `messages[0].role`.
  package let param: String?

  /// One sentence for people.
  package let message: String

  /// Seconds for a `Retry-After` header.
  package let retryAfterSeconds: Int?

  /// Value of an `Allow` header (405 only).
  package let allow: String?

  package init(
    status: Int, code: String?, param: String? = nil, message: String, retryAfterSeconds: Int? = nil,
    allow: String? = nil
  ) {
    self.status = status
    self.code = code
    self.param = param
    self.message = message
    self.retryAfterSeconds = retryAfterSeconds
    self.allow = allow
  }

  /// OpenAI's class of error; follows from the status.
  package var type: String {
    switch status {
    case 401: "authentication_error"
    case 429: "rate_limit_error"
    case 500...: "server_error"
    default: "invalid_request_error"
    }
  }
}

// MARK: The request's body

extension APIError {
  /// 400: the body is no JSON, is cut off, has bytes behind its end, invalid UTF-8, or nests too deep.
  package static func invalidJSON(_ error: JSONError) -> APIError {
    APIError(
      status: 400, code: "invalid_json",
      message: "The request body is not valid JSON: \(error.explanation) at byte \(error.offset).")
  }

  /// 400: the body is JSON but no object.
  package static let bodyIsNotAnObject = APIError(
    status: 400, code: "invalid_type", message: "The request body must be a JSON object.")

  /// 400: a key that the frontend reads occurs twice, so that frontend and engine could read different values.
  package static func duplicateKey(_ param: String) -> APIError {
    APIError(
      status: 400, code: "invalid_json", param: param,
      message: "The key '\(param)' occurs more than once in the request body.")
  }

  /// 400: a field has the wrong JSON type. `expected` reads like `a string`.
  package static func invalidType(_ param: String, expected: String) -> APIError {
    APIError(
      status: 400, code: "invalid_type", param: param,
      message: "Invalid type for '\(param)': expected \(expected).")
  }

  /// 400: a field has the right type and an impossible value. `reason` completes "Invalid value for 'x': …".
  package static func invalidValue(_ param: String, reason: String) -> APIError {
    APIError(
      status: 400, code: "invalid_value", param: param, message: "Invalid value for '\(param)': \(reason).")
  }

  /// 400: a member of an object whose members are all known here.
  package static func unknownField(_ param: String) -> APIError {
    APIError(
      status: 400, code: "unknown_parameter", param: param, message: "Unknown parameter: '\(param)'.")
  }

  /// 400: a required field is absent.
  package static func missing(_ param: String) -> APIError {
    APIError(
      status: 400, code: "missing_required_parameter", param: param,
      message: "Missing required parameter: '\(param)'.")
  }

  /// 413: the body is longer than the limit.
  package static func bodyTooLarge(limitBytes: Int) -> APIError {
    APIError(
      status: 413, code: "body_too_large",
      message: "The request body is larger than the limit of \(limitBytes) bytes.")
  }

  /// 415: the content type is not JSON, or the content coding is not known.
  package static let unsupportedMediaType = APIError(
    status: 415, code: "unsupported_media_type",
    message: "The request body must be sent as 'application/json'.")
}

// MARK: The request's head

extension APIError {
  /// An error of HTTP parsing with the status the parser chose (400, 414, 431, 501, 505 …).
  package static func malformedRequest(status: Int = 400, message: String) -> APIError {
    APIError(status: status, code: status == 400 ? "bad_request" : nil, message: message)
  }

  /// 401: no key, or one that is not known.
  package static func invalidAPIKey(isMissing: Bool) -> APIError {
    APIError(
      status: 401, code: "invalid_api_key",
      message: isMissing
        ? "An API key is required in the header 'authorization: Bearer KEY' or 'x-api-key: KEY'."
        : "The API key is not valid.")
  }

  /// 404: no such route.
  package static func notFound(method: String, path: String, hint: String = "") -> APIError {
    APIError(
      status: 404, code: "not_found", message: "Unknown request URL: \(method) \(shortened(path)).\(hint)")
  }

  /// 405: the route exists for other methods, which `allow` lists.
  package static func methodNotAllowed(_ method: String, allow: String) -> APIError {
    APIError(
      status: 405, code: "method_not_allowed", message: "\(method) is not allowed here; use \(allow).",
      allow: allow)
  }

  /// 404: the route needs the model's tokenizer, and none is loaded.
  package static let noTokenizer = APIError(
    status: 404, code: "no_tokenizer",
    message: "No tokenizer is loaded: start the server with --model-path and the folder of the model's files."
  )

  /// 404: no worker has served this model.
  package static func modelNotFound(_ model: String) -> APIError {
    APIError(
      status: 404, code: "model_not_found", param: "model",
      message: "The model '\(shortened(model))' does not exist.")
  }

  /// 404: the model is served, but no worker of it answers this route.
  package static func endpointNotServed(_ model: String, path: StaticString, served: [Endpoint]) -> APIError {
    let others = served.map { "\($0.path)" }.joined(separator: ", ")
    return APIError(
      status: 404, code: "endpoint_not_served", param: "model",
      message: "No worker of the model '\(shortened(model))' serves \(path)"
        + (others.isEmpty ? "." : "; they serve \(others)."))
  }

  /// 408: head or body did not arrive in time.
  package static let requestTimeout = APIError(
    status: 408, code: "request_timeout", message: "The request did not arrive in time.")

  /// 417: an expectation other than `100-continue`.
  package static let expectationFailed = APIError(
    status: 417, code: "expectation_failed", message: "Only 'expect: 100-continue' is supported.")

  /// 499, never sent: what logs and metrics say when the caller left.
  package static let clientClosed = APIError(
    status: 499, code: "client_closed_request", message: "The client closed the connection.")

  /// What callers sent is echoed in part only, so that an error stays short.
  private static func shortened(_ text: String) -> String {
    text.utf8.count <= 200 ? text : String(text.prefix(200)) + "…"
  }
}

// MARK: Capacity and workers

extension APIError {
  /// 429: the key's rate or concurrency limit is reached. `limit` completes "Rate limit reached for …".
  package static func rateLimited(_ limit: String, retryAfterSeconds: Int) -> APIError {
    APIError(
      status: 429, code: "rate_limited",
      message: "Rate limit reached for \(limit); try again in \(retryAfterSeconds) s.",
      retryAfterSeconds: retryAfterSeconds)
  }

  /// 503: no live worker serves the model now, though one did lately, or none is known yet.
  package static func noWorkers(model: String?, retryAfterSeconds: Int = 1) -> APIError {
    APIError(
      status: 503, code: "no_workers",
      message: model.map { "No worker serves the model '\(shortened($0))' at the moment." }
        ?? "No worker is available at the moment.",
      retryAfterSeconds: retryAfterSeconds)
  }

  /// 503: only workers that prefill are there for the model, and nobody to generate.
  package static func onlyPrefillWorkers(model: String) -> APIError {
    APIError(
      status: 503, code: "no_workers",
      message:
        "The model '\(shortened(model))' has only workers that prefill at the moment, and none that generates.",
      retryAfterSeconds: 1)
  }

  /// 503: the worker that the request names is not there, or takes no request at the moment.
  package static func workerUnavailable(_ id: UInt64, retryAfterSeconds: Int = 1) -> APIError {
    APIError(
      status: 503, code: "no_workers",
      message: "The worker \(id), which the request names, is not available at the moment.",
      retryAfterSeconds: retryAfterSeconds)
  }

  /// 503: the worker of a hard session is gone. The next request begins the session anew.
  package static let sessionLost = APIError(
    status: 503, code: "session_lost",
    message: "The worker of this session is gone; the next request will be served by another one.",
    retryAfterSeconds: 1)

  /// 503: the server is stopping.
  package static func draining(retryAfterSeconds: Int = 1) -> APIError {
    APIError(
      status: 503, code: "draining", message: "The server is shutting down.",
      retryAfterSeconds: retryAfterSeconds)
  }

  /// What there is too much of.
  package enum Overload: String, Sendable {
    case workers = "All workers are busy"
    case bodyMemory = "The server holds as many request bodies as it may"
    case process = "The server is at its bounds"
    case preprocessing = "Too many long prompts wait to be preprocessed"
    case queue = "All workers are full, and too many requests wait for them"
    case queueTime = "All workers are full, and the request waited for too long"
  }

  /// 529 unless configured otherwise: all workers are busy, or a bound of the server is reached.
  package static func overloaded(
    status: Int = 529, _ cause: Overload = .workers, retryAfterSeconds: Int = 1
  ) -> APIError {
    APIError(
      status: status, code: "overloaded", message: "\(cause.rawValue); try again later.",
      retryAfterSeconds: retryAfterSeconds)
  }

  /// 502: the worker could not be reached, or broke before it answered. `reason` is one clause without a full stop.
  package static func badGateway(_ reason: String) -> APIError {
    APIError(status: 502, code: "bad_gateway", message: "The worker failed: \(reason).")
  }

  /// 502: the worker refused our credentials; its 401 or 403 would mislead the caller.
  package static let workerAuth = APIError(
    status: 502, code: "worker_auth", message: "The worker refused the server's credentials.")

  /// 504: the worker stayed silent.
  package static let upstreamTimeout = APIError(
    status: 504, code: "upstream_timeout", message: "The worker did not answer in time.")

  /// 500: a fault of ours.
  package static let internalError = APIError(
    status: 500, code: "internal_error", message: "The server failed to handle the request.")
}
