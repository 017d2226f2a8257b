// Names of the metrics that tell how frontends exchange their load (--router-replica-sync).

extension MetricDescription {
  /// peer
  package static let peerUp = MetricDescription(
    "dynamo_frontend_peer_up", "1 while another frontend is heard at this address, 0 while it is silent.")
  package static let peerListening = MetricDescription(
    "dynamo_frontend_peer_listening", "1 while other frontends can hear this one.")
  package static let peerMessagesSent = MetricDescription(
    "dynamo_frontend_peer_messages_sent_total", "Messages to other frontends about booked load.")
  package static let peerMessages = MetricDescription(
    "dynamo_frontend_peer_messages_total", "Messages of other frontends that were used.")
  package static let peerMessagesMissed = MetricDescription(
    "dynamo_frontend_peer_messages_missed_total",
    "Messages of other frontends that never came, by their numbers.")
  /// reason
  package static let peerDropped = MetricDescription(
    "dynamo_frontend_peer_dropped_total", "Messages, rows and prompts of the exchange that were thrown away.")
  /// reason
  package static let peerLosses = MetricDescription(
    "dynamo_frontend_peer_losses_total",
    "Times that another frontend's load was dropped: it was silent, or came back as another process.")
  /// worker_id
  package static let peerRequests = MetricDescription(
    "dynamo_frontend_peer_active_requests", "Requests of other frontends in flight on a worker.")
  /// worker_id
  package static let peerBlocks = MetricDescription(
    "dynamo_frontend_peer_active_blocks", "Blocks of those requests.")
  /// worker_id
  package static let peerPrefillTokens = MetricDescription(
    "dynamo_frontend_peer_active_prefill_tokens",
    "Prompt tokens of those requests that have not given a first token.")
}
