// The bodies of `/v1/models` and `/v1/models/{id}`, written and read.

package import Base
package import JSON

/// A model as it is listed.
package struct ListedModel: Sendable, Equatable {
  /// The name requests use.
  package let id: String

  /// Unix time in seconds at which the model became available.
  package let created: Int

  /// Longest prompt plus answer in tokens, if it is known (`max_model_len`, as engines call it).
  package let contextTokens: Int?

  /// What answers of ours say in `owned_by`.
  fileprivate static let owner = "nvidia"

  /// The engine behind it, by the name that it gives itself in `owned_by`.
  package var engine: String?

  /// The routes that serve it; nil when that is not told.
  package var endpoints: EndpointSet?

  /// Which part of a request its worker does, by Dynamo's word; nil for all of it.
  package var workerType: String?

  /// The base model, where this is a LoRA adapter of one.
  package var parent: String?

  package init(id: String, created: Int, contextTokens: Int? = nil, engine: String? = nil) {
    self.engine = engine
    self.id = id
    self.created = created
    self.contextTokens = contextTokens
  }

  /// The models that an answer of `/v1/models` lists; nil when it is no such answer.
  package static func list(from answer: JSONValue) -> [ListedModel]? {
    guard let data = answer["data"]?.array else { return nil }
    return data.compactMap { entry in
      guard let id = entry["id"]?.string, !id.isEmpty else { return nil }
      let owner = entry["owned_by"]?.string
      var model = ListedModel(
        id: id, created: entry["created"]?.integer ?? 0, contextTokens: entry["max_model_len"]?.integer,
        engine: entry["engine"]?.string ?? (owner == Self.owner ? nil : owner))
      model.parent = entry["parent"]?.string
      if let labels = entry["endpoints"]?.array {
        model.endpoints = EndpointSet(labels: labels.compactMap(\.string))
      }
      return model
    }
  }
}

extension ByteBuffer {
  /// Appends one model object.
  package mutating func append(_ model: ListedModel) {
    append("{\"id\":" as StaticString)
    append(jsonString: model.id)
    append(",\"object\":\"model\",\"created\":" as StaticString)
    append(decimal: model.created)
    append(",\"owned_by\":" as StaticString)
    append(jsonString: ListedModel.owner)
    if let tokens = model.contextTokens {
      append(",\"max_model_len\":" as StaticString)
      append(decimal: tokens)
    }
    if let parent = model.parent {
      append(",\"parent\":" as StaticString)
      append(jsonString: parent)
    }
    if let engine = model.engine {
      append(",\"engine\":" as StaticString)
      append(jsonString: engine)
    }
    if let workerType = model.workerType {
      append(",\"worker_type\":" as StaticString)
      append(jsonString: workerType)
    }
    if let endpoints = model.endpoints {
      append(",\"endpoints\":" as StaticString)
      append(endpoints)
    }
    append(UInt8(ascii: "}"))
  }

  /// Appends the list of models.
  package mutating func append(_ models: [ListedModel]) {
    append("{\"object\":\"list\",\"data\":[" as StaticString)
    for (index, model) in models.enumerated() {
      if index > 0 { append(UInt8(ascii: ",")) }
      append(model)
    }
    append("]}" as StaticString)
  }
}
