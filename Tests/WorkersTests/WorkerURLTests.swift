// Worker URLs: what is taken, what is refused with which words, and ids.

import Base
import EventLoop
import Telemetry
import Logging
import Testing

@testable import Workers

struct WorkerURLTests {
  private func parsed(_ text: String) throws -> WorkerURL { try WorkerURL.parse(text).get() }

  @Test func hostPortAndPrefixAreRead() throws {
    let url = try parsed("http://GPU-1:8001/team/a/")
    #expect(url.host == "gpu-1")
    #expect(url.port == 8001)
    #expect(url.pathPrefix == "/team/a")
    #expect(!url.isPerAddress)
    #expect(!url.isNumeric)
    #expect(url.text == "http://gpu-1:8001/team/a")
  }

  @Test func thePortIs80WhenNoneIsNamed() throws {
    #expect(try parsed("http://engine").port == 80)
    #expect(try parsed("http://[::1]").port == 80)
  }

  @Test func httpsMeansTLSAndPort443() throws {
    let url = try parsed("HTTPS://Engine/v1")
    #expect(url.isSecure && url.port == 443 && url.text == "https://engine:443")
    #expect(try parsed("dns+https://engines:8443").text == "dns+https://engines:8443")
    #expect(try !parsed("http://engine").isSecure)
    #expect(try parsed("https://engine:80").id != parsed("http://engine:80").id)
  }

  @Test func addressesOfIPv6StandInBrackets() throws {
    let url = try parsed("http://[::1]:9000")
    #expect(url.host == "::1")
    #expect(url.authority == "[::1]:9000")
    #expect(url.isNumeric)
  }

  @Test func aBasePathOfAnSDKMeansTheSameWorker() throws {
    #expect(try parsed("http://a:1/v1") == parsed("http://a:1"))
    #expect(try parsed("http://a:1/x/v1/").pathPrefix == "/x")
  }

  @Test func aNameMayStandForOneWorkerPerAddress() throws {
    let url = try parsed("dns+http://engines.svc:8000")
    #expect(url.isPerAddress)
    #expect(url.host == "engines.svc")
  }

  @Test func h2cWorkersAreSpokenToInHTTP2() throws {
    let url = try parsed("H2C://gpu:8000/x/v1")
    #expect(url.isMultiplexed && !url.isSecure && !url.isPerAddress)
    #expect(url.text == "h2c://gpu:8000/x")
    #expect(try parsed("http://gpu:8000/x").id != url.id)
    let perAddress = try parsed("dns+h2c://gpu:8000")
    #expect(perAddress.isMultiplexed && perAddress.isPerAddress)
    let address = try #require(SocketAddress.resolve(host: "127.0.0.1", port: 8000).first)
    #expect(perAddress.worker(at: address).isMultiplexed)
  }

  @Test(arguments: [
    "https://", "h2c://", "ftp://a", "a:8000", "http://", "http://:80", "http://a:0", "http://a:65536",
    "http://a:+1", "http://a:", "http://u:p@a", "http://a/?x=1", "http://a b", "http://::1:80",
    "http://[x]:1",
    "http://ä:1", "",
  ])
  func whatIsNoWorkerURLIsRefused(_ text: String) {
    guard case .failure(let refusal) = WorkerURL.parse(text) else {
      Issue.record("'\(text)' was taken")
      return
    }
    #expect(!refusal.reason.isEmpty)
  }

  @Test func allBadURLsAreToldAtOnce() {
    var configuration = WorkerDirectoryConfiguration()
    configuration.urls = ["ftp://a:1", "http://fine:1", "nonsense"]
    do throws(WorkerDirectoryError) {
      _ = try WorkerDirectory(
        configuration: configuration, logger: quietLogger, registry: MetricRegistry())
      Issue.record("bad URLs were taken")
    } catch {
      guard case .urls(let faults) = error else {
        Issue.record("\(error)")
        return
      }
      #expect(faults.map(\.url) == ["ftp://a:1", "nonsense"])
      #expect(error.description.contains("unknown scheme"))
    }
  }

  @Test func idsAreStableDistinctAndFitJSON() throws {
    let ids = try (1...2_000).map { try parsed("http://worker:\($0)").id }
    #expect(Set(ids).count == ids.count)
    #expect(ids.allSatisfy { $0 > 0 && $0 < 1 << 53 })
    #expect(try parsed("HTTP://Worker:1/").id == ids[0])
    // A change of this number renames every worker in dashboards.
    #expect(try parsed("http://127.0.0.1:8000").id == 7_978_575_876_015_422)
  }
}
