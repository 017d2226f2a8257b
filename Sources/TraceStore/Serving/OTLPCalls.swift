// OTLP over gRPC: TraceService/Export.

internal import Base
internal import GRPC
internal import HTTP
internal import Transport

/// Answers calls of the OTLP/gRPC port.
final class OTLPCalls: HTTP2Application {
  private unowned let parent: StoreLoop

  init(_ parent: StoreLoop) { self.parent = parent }

  func received(_ exchange: HTTP2Exchange, on connection: HTTP2ServerConnection) {
    let call = GRPCServerCall(exchange)
    do throws(HTTP2Error) {
      switch answer(call) {
      case .success(let result):
        var message = ByteBuffer()
        message.append(exportResponse: result)
        try call.succeed(on: connection.session, message: message.readable)
      case .failure(let fault): try call.fail(on: connection.session, fault.status)
      }
      connection.flush()
    } catch {
      connection.close()
    }
  }

  private func answer(_ call: GRPCServerCall) -> Result<SpanStore.Ingested, GRPCFault> {
    guard call.path.equals("/opentelemetry.proto.collector.trace.v1.TraceService/Export") else {
      return .failure(GRPCFault(.unimplemented, "only TraceService/Export is served"))
    }
    switch call.message {
    case .failure(let fault): return .failure(fault)
    case .success(let message):
      do throws(IngestError) {
        return .success(try parent.ingest(message) { $0.grpcMessages += 1 })
      } catch {
        // Tempo's words: a message that cannot be read is internal, an id that cannot be is the caller's fault.
        let code: GRPCCode = error == .malformed ? .internalError : .invalidArgument
        return .failure(GRPCFault(code, error.message))
      }
    }
  }
}
