// What a worker answers besides inference.

import HTTP
import Testing
import Transport

@testable import WorkerServer

@Suite struct SystemRoutesTests {
  @Test func modelsAreListedAndFoundUnderEncodedNamesToo() throws {
    let rig = try Rig()
    #expect(rig.perform("GET", "/v1/models").body.contains("\"id\":\"test/model\""))
    for path in ["/v1/models/test/model", "/v1/models/test%2Fmodel", "/v1/models/test%2fmodel"] {
      #expect(rig.perform("GET", path).body.contains("\"object\":\"model\""), "\(path)")
    }
    let missing = rig.perform("GET", "/v1/models/none")
    #expect(missing.status == 404 && missing.body.contains("model_not_found"))
  }

  @Test func healthFollowsReadiness() throws {
    let rig = try Rig()
    let ready = rig.perform("GET", "/health")
    #expect(ready.status == 200 && ready.body.contains("\"status\":\"ready\""))
    #expect(ready.body.contains("\"instance_id\":4711"))
    rig.worker.shared.models.value.isReady = false
    rig.worker.shared.models.value.reason = "engine gone"
    let notReady = rig.perform("GET", "/health")
    #expect(notReady.status == 503 && notReady.body.contains("engine gone"))
    #expect(rig.perform("GET", "/live").status == 200)
  }

  @Test func metricsTellOfTheCache() throws {
    let rig = try Rig()
    _ = rig.perform(body: rig.chat())
    let page = rig.perform("GET", "/metrics")
    #expect(page.fields.contains("text/plain; version=0.0.4"))
    #expect(page.body.contains("vllm:cache_config_info{block_size=\"16\",num_gpu_blocks=\"16384\"} 1"))
    #expect(page.body.contains("dynamo_component_requests_total{"))
  }

  @Test func theCacheIsResetOnlyWhereItIsAllowedAndIdle() throws {
    #expect(try Rig().perform("POST", "/reset_prefix_cache").status == 404)
    let rig = try Rig(edit: { $0.allowsCacheReset = true })
    let (exchange, handler) = rig.begin(body: rig.chat("\"max_tokens\":50"))
    rig.run(milliseconds: 2)
    #expect(!exchange.isFinished)
    let busy = rig.perform("POST", "/reset_prefix_cache")
    #expect(busy.status == 409 && busy.body.contains("cache_in_use"))
    rig.run(until: { exchange.isFinished })
    handler.ended(.complete)
    #expect(rig.perform("POST", "/reset_prefix_cache").status == 200)
    #expect(rig.perform("GET", "/reset_prefix_cache").status == 404)
  }

  @Test func unknownRoutesAndMethodsAreRefused() throws {
    let rig = try Rig()
    #expect(rig.perform("GET", "/nothing").status == 404)
    let method = rig.perform("DELETE", "/v1/models")
    #expect(method.status == 405 && method.fields.contains("allow: GET, HEAD"))
    #expect(rig.perform("GET", "/v1/chat/completions").status == 405)
    #expect(rig.perform("GET", "/version").body.contains("version"))
  }
}
