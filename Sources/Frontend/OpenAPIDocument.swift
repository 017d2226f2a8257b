// `/openapi.json`: every route that the frontend answers, as it is configured.

internal import JSON
internal import OpenAI

/// Describes the routes in OpenAPI 3.1.
struct OpenAPIDocument {
  /// What there is of the routes that are not always there.
  struct Features: Equatable {
    let hasAnthropic: Bool
    let hasTokenizer: Bool
    let hasRouter: Bool
    /// Metrics are not on an address of their own.
    let hasMetrics: Bool

    init(_ configuration: FrontendConfiguration) {
      hasAnthropic = configuration.enablesAnthropic
      hasTokenizer = configuration.tokenizer != nil
      hasRouter = !configuration.hidesRouter
      hasMetrics = configuration.metricsAddress == nil
    }
  }

  private let features: Features

  init(_ features: Features) { self.features = features }

  /// The document.
  var json: JSONValue {
    let document: Node = object(
      ("openapi", "3.1.0"),
      (
        "info",
        object(
          ("title", "dynamo-frontend"), ("version", .string(frontendVersion)),
          (
            "description",
            "Relays requests to workers, to the one whose cache holds the prompt's beginning. Fields that are not named here are passed on to the worker."
          ))
      ),
      ("paths", object(paths)), ("components", object(("schemas", OpenAPISchemas.all))))
    return document.value
  }

  private var paths: [(String, Node)] {
    var paths: [(String, Node)] = Endpoint.allCases.filter {
      features.hasAnthropic || !$0.isAnthropic
    }
    .map { ("\($0.path)", object(("post", inference($0)))) }
    if features.hasTokenizer {
      paths.append(
        ("/tokenize", object(("post", plainPost("Tokens of a prompt, as vLLM answers", "TokenizeRequest")))))
      paths.append(("/detokenize", object(("post", plainPost("Text of tokens", "DetokenizeRequest")))))
    }
    if features.hasRouter {
      paths.append(
        (
          "/v1/router/explain",
          object(("post", plainPost("What would become of a request", "ChatCompletionRequest")))
        ))
      paths.append(("/v1/router/state", object(("get", get("What the router knows of its workers")))))
    }
    paths.append(("/v1/models", object(("get", get("Models that are served")))))
    paths.append(("/v1/models/{model}", object(("get", modelByName))))
    paths.append(("/health", object(("get", get("Workers and what is known of them")))))
    paths.append(("/live", object(("get", get("Whether the process lives")))))
    paths.append(("/ready", object(("get", get("Whether requests can be served", failures: ["503"])))))
    if features.hasMetrics {
      paths.append(("/metrics", object(("get", get("Metrics for Prometheus", type: "text/plain")))))
    }
    paths.append(("/version", object(("get", get("Name and version")))))
    paths.append(("/openapi.json", object(("get", get("This document")))))
    paths.append(("/docs", object(("get", get("A page that shows this document", type: "text/html")))))
    return paths
  }

  // MARK: Operations

  private func inference(_ endpoint: Endpoint) -> Node {
    let parts = OpenAPISchemas.parts(of: endpoint)
    var content: [(String, Node)] = [("application/json", object(("schema", reference(parts.answer))))]
    if endpoint.generates {
      content.append(("text/event-stream", object(("schema", object(("type", "string"))))))
    }
    return operation(
      parts.summary, tag: endpoint.isAnthropic ? "Anthropic" : "Inference", id: "\(endpoint.label)",
      more: [
        ("parameters", .array(Self.headers)),
        ("requestBody", body(parts.request)),
      ],
      answer: content, error: endpoint.isAnthropic ? "AnthropicError" : "Error",
      failures: ["400", "401", "404", "413", "415", "422", "429", "500", "502", "503", "504", "529"])
  }

  private func plainPost(_ summary: String, _ schema: String) -> Node {
    operation(
      summary, tag: "Prompts and routing", more: [("requestBody", body(schema))],
      answer: [("application/json", object(("schema", object(("type", "object")))))],
      failures: ["400", "404", "413", "415", "503", "529"])
  }

  private func get(_ summary: String, type: String = "application/json", failures: [String] = []) -> Node {
    let schema = type == "application/json" ? object(("type", "object")) : object(("type", "string"))
    return operation(
      summary, tag: "System", answer: [(type, object(("schema", schema)))], failures: failures)
  }

  private var modelByName: Node {
    operation(
      "One model", tag: "System",
      more: [
        (
          "parameters",
          .array([
            object(
              ("name", "model"), ("in", "path"), ("required", true),
              ("description", "The model's name, percent-encoded"), ("schema", object(("type", "string"))))
          ])
        )
      ], answer: [("application/json", object(("schema", object(("type", "object")))))], failures: ["404"])
  }

  private func operation(
    _ summary: String, tag: String, id: String? = nil, more: [(String, Node)] = [],
    answer: [(String, Node)], error: String = "Error", failures: [String]
  ) -> Node {
    var members: [(String, Node)] = [("summary", .string(summary)), ("tags", .array([.string(tag)]))]
    if let id { members.append(("operationId", .string(id))) }
    members += more
    var responses = [("200", object(("description", "The answer"), ("content", object(answer))))]
    for status in failures {
      let content = object(("application/json", object(("schema", reference(error)))))
      let reason = "\(APIError.reasonPhrase(Int(status) ?? 0))"
      responses.append(
        (status, object(("description", .string(reason)), ("content", content))))
    }
    members.append(("responses", object(responses)))
    return object(members)
  }

  private func body(_ schema: String) -> Node {
    object(
      ("required", true),
      ("content", object(("application/json", object(("schema", reference(schema)))))))
  }

  private static let headers: [Node] = [
    ("x-request-id", "Names the request in answers, traces and logs"),
    ("traceparent", "The caller's span (W3C Trace Context)"),
    ("x-dynamo-session-id", "Requests of one session go to one worker"),
  ].map { name, text in
    object([
      ("name", .string(name)), ("in", "header"), ("required", false), ("description", .string(text)),
      ("schema", object([("type", "string")])),
    ])
  }
}

/// The schemas that the document names.
enum OpenAPISchemas {
  /// What an inference route is about, and its schemas.
  static func parts(of endpoint: Endpoint) -> (summary: String, request: String, answer: String) {
    switch endpoint {
    case .chatCompletions: ("Answer a chat", "ChatCompletionRequest", "ChatCompletion")
    case .completions: ("Continue a text", "CompletionRequest", "Completion")
    case .embeddings: ("Embed texts", "EmbeddingRequest", "EmbeddingList")
    case .responses: ("Make a response (OpenAI Responses)", "ResponseRequest", "Response")
    case .messages: ("Answer a chat (Anthropic Messages)", "MessageRequest", "Message")
    case .countTokens: ("Count a chat's tokens (Anthropic)", "CountTokensRequest", "TokenCount")
    case .rerank: ("Order documents by their fit to a query", "RerankRequest", "RerankResult")
    case .score: ("Score texts against texts", "ScoreRequest", "ScoreList")
    }
  }

  private static let text = object(("type", "string"))
  private static let flag = object(("type", "boolean"))
  private static let count = object(("type", "integer"), ("minimum", 1))
  private static let anything = object([])
  private static let textOrTexts = object(
    ("anyOf", .array([text, object(("type", "array"), ("items", text), ("minItems", 1))])))
  private static let role = object(("type", "string"))

  private static func record(_ properties: [(String, Node)], required: [String] = []) -> Node {
    var members: [(String, Node)] = [("type", "object"), ("properties", object(properties))]
    if !required.isEmpty { members.append(("required", .array(required.map { .string($0) }))) }
    return object(members)
  }

  private static func list(_ items: Node) -> Node {
    object(("type", "array"), ("items", items), ("minItems", 1))
  }

  private static let chatMessage = record(
    [("role", role), ("content", anything)], required: ["role"])

  private static let prompt = object(
    (
      "anyOf",
      .array([
        text, list(text), list(object(("type", "integer"), ("minimum", 0), ("maximum", 4_294_967_295))),
        list(list(object(("type", "integer"), ("minimum", 0), ("maximum", 4_294_967_295)))),
      ])
    ))

  static let all = object(requests + answers)

  private static let requests: [(String, Node)] = [
    (
      "ChatCompletionRequest",
      record(
        [
          ("model", text), ("messages", list(chatMessage)), ("stream", flag),
          ("max_completion_tokens", count),
          ("n", count), ("temperature", object(("type", "number"), ("minimum", 0), ("maximum", 2))),
        ], required: ["model", "messages"])
    ),
    (
      "CompletionRequest",
      record(
        [("model", text), ("prompt", prompt), ("stream", flag), ("max_tokens", count), ("n", count)],
        required: ["model", "prompt"])
    ),
    (
      "EmbeddingRequest",
      record(
        [
          ("model", text), ("input", prompt), ("dimensions", count),
          ("encoding_format", object(("type", "string"), ("enum", .array(["float", "base64"])))),
        ], required: ["model", "input"])
    ),
    (
      "ResponseRequest",
      record(
        [
          ("model", text), ("input", object(("anyOf", .array([text, list(anything)])))),
          ("instructions", text),
          ("stream", flag), ("max_output_tokens", count), ("previous_response_id", text),
        ], required: ["model", "input"])
    ),
    (
      "MessageRequest",
      record(
        [
          ("model", text), ("max_tokens", count), ("messages", list(anthropicMessage)), ("system", anything),
          ("stream", flag), ("tools", object(("type", "array"), ("items", anything))),
          ("tool_choice", anything),
        ], required: ["model", "max_tokens", "messages"])
    ),
    (
      "CountTokensRequest",
      record(
        [("model", text), ("messages", list(anthropicMessage)), ("system", anything)],
        required: ["model", "messages"])
    ),
    (
      "RerankRequest",
      record(
        [
          ("model", text), ("query", text), ("documents", list(text)),
          ("top_n", object(("type", "integer"), ("minimum", 0))),
        ], required: ["model", "query", "documents"])
    ),
    (
      "ScoreRequest",
      record(
        [("model", text), ("text_1", textOrTexts), ("text_2", textOrTexts)],
        required: ["model", "text_1", "text_2"])
    ),
    ("TokenizeRequest", record([("model", text), ("prompt", text), ("messages", list(chatMessage))])),
    (
      "DetokenizeRequest",
      record(
        [("model", text), ("tokens", object(("type", "array"), ("items", object(("type", "integer")))))],
        required: ["tokens"])
    ),
  ]

  private static let anthropicMessage = record(
    [("role", object(("type", "string"), ("enum", .array(["user", "assistant"])))), ("content", anything)],
    required: ["role", "content"])

  private static let answers: [(String, Node)] = [
    (
      "ChatCompletion",
      record([("id", text), ("object", text), ("choices", list(anything)), ("usage", anything)])
    ),
    (
      "Completion",
      record([("id", text), ("object", text), ("choices", list(anything)), ("usage", anything)])
    ),
    ("EmbeddingList", record([("object", text), ("data", list(anything)), ("usage", anything)])),
    (
      "Response",
      record([
        ("id", text), ("object", text), ("status", text),
        ("output", object(("type", "array"), ("items", anything))),
      ])
    ),
    (
      "Message",
      record([
        ("id", text), ("type", text), ("role", text),
        ("content", object(("type", "array"), ("items", anything))),
        ("stop_reason", anything), ("usage", anything),
      ])
    ),
    ("TokenCount", record([("input_tokens", object(("type", "integer")))], required: ["input_tokens"])),
    ("RerankResult", record([("id", text), ("results", object(("type", "array"), ("items", anything)))])),
    ("ScoreList", record([("id", text), ("data", object(("type", "array"), ("items", anything)))])),
    (
      "Error",
      record([
        (
          "error",
          record(
            [("message", text), ("type", text), ("param", anything), ("code", anything)],
            required: ["message", "type"])
        )
      ])
    ),
    (
      "AnthropicError",
      record(
        [
          ("type", text),
          ("error", record([("type", text), ("message", text)], required: ["type", "message"])),
        ],
        required: ["type", "error"])
    ),
  ]
}

/// A value of the document, which literals can be written for.
struct Node: ExpressibleByStringLiteral, ExpressibleByBooleanLiteral, ExpressibleByIntegerLiteral,
  ExpressibleByArrayLiteral
{
  let value: JSONValue

  init(_ value: JSONValue) { self.value = value }
  init(stringLiteral value: String) { self.value = .string(value) }
  init(booleanLiteral value: Bool) { self.value = .bool(value) }
  init(integerLiteral value: Int) { self.value = .integer(value) }
  init(arrayLiteral elements: Node...) { value = .array(elements.map(\.value)) }

  static func string(_ text: String) -> Node { Node(.string(text)) }
  static func array(_ elements: [Node]) -> Node { Node(.array(elements.map(\.value))) }
}

private func object(_ members: (String, Node)...) -> Node { object(members) }

private func object(_ members: [(String, Node)]) -> Node {
  Node(.members(members.map { ($0.0, $0.1.value) }))
}

private func reference(_ schema: String) -> Node {
  object(("$ref", .string("#/components/schemas/\(schema)")))
}
