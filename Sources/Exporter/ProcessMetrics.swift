// The process as /metrics shows it: Prometheus' standard families, read at each scrape, and the version.

internal import Base
internal import EventLoop
package import Telemetry

extension MetricRegistry {
  /// Shows the process, under the name `service` and its `version`. What the system does not tell is left out.
  package func registerProcess(service: String, version: String) {
    observe(.buildInfo, .gauge, labels: [("service", service), ("version", version)]) { 1 }
    observe(.processCPU, .counter) { ProcessReadings.cpuSeconds }
    let started = ProcessReadings.startNanoseconds ?? Machine.wallNanoseconds
    observe(.processStartTime, .gauge) { Double(started) / 1e9 }
    collect(.processResidentMemory, .gauge) { samples in
      if let bytes = ProcessReadings.residentBytes { samples.add(Double(bytes)) }
    }
    collect(.processOpenFDs, .gauge) { samples in
      if let count = ProcessReadings.openDescriptors { samples.add(Double(count)) }
    }
  }
}
