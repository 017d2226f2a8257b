"""Writes Config/grafana/dashboards/*.json from the tables below: Scripts/dashboards.py [--check].

A panel is a title, a unit, and its queries with their legends. The tests run every query against a real scrape.
"""

import json
import sys
from pathlib import Path

FOLDER = Path(__file__).resolve().parent.parent / "Config/grafana/dashboards"
PROMETHEUS = {"type": "prometheus", "uid": "prometheus"}
TEMPO = {"type": "tempo", "uid": "tempo"}

# What every query is narrowed down to.
F = 'job="dynamo-frontend", instance=~"$instance"'
M = F + ', model=~"$model"'
W = 'job="dynamo-worker", model=~"$model"'
ALL = 'job=~"dynamo-.*", instance=~"$instance"'


def rate(series: str, by: str = "") -> str:
    return f"sum {f'by ({by}) ' if by else ''}(rate({series}[$__rate_interval]))"


def quantile(share: float, family: str, match: str, by: str = "") -> str:
    labels = ", ".join(filter(None, ["le", by]))
    return f"histogram_quantile({share}, {rate(f'{family}_bucket{{{match}}}', labels)})"


def quantiles(family: str, match: str) -> list[tuple[str, str]]:
    return [(quantile(share, family, match), f"p{round(share * 100)}") for share in (0.5, 0.95, 0.99)]


def mean(family: str, match: str, by: str = "") -> str:
    return f"{rate(f'{family}_sum{{{match}}}', by)} / {rate(f'{family}_count{{{match}}}', by)}"


def overhead(part: str, legend: str) -> tuple[str, str]:
    return quantile(0.99, f"dynamo_router_overhead_{part}_ms", F), legend


def panel(title: str, unit: str, queries: list[tuple[str, str]], kind: str = "timeseries", about: str = "") -> dict:
    return {"title": title, "unit": unit, "queries": queries, "kind": kind, "about": about}


def stat(title: str, unit: str, query: str) -> dict:
    return panel(title, unit, [(query, "")], "stat")


def traces(title: str, query: str, about: str = "") -> dict:
    return {"title": title, "unit": "", "queries": [(query, "")], "kind": "traces", "about": about}


REQUESTS = [
    stat("Requests", "reqps", rate(f"dynamo_frontend_requests_total{{{M}}}")),
    stat(
        "Failed",
        "percentunit",
        f'(sum(rate(dynamo_frontend_requests_total{{{M}, status="error"}}[$__rate_interval])) or vector(0))'
        f" / {rate(f'dynamo_frontend_requests_total{{{M}}}')}",
    ),
    stat("In hand", "short", f"sum(dynamo_frontend_active_requests{{{M}}})"),
    stat("Tokens made", "suffix: tok/s", rate(f"dynamo_frontend_output_tokens_total{{{M}}}")),
    panel("Requests by model", "reqps", [(rate(f"dynamo_frontend_requests_total{{{M}}}", "model"), "{{model}}")]),
    panel(
        "Failures by kind",
        "reqps",
        [
            (rate(f'dynamo_frontend_requests_total{{{F}, status="error"}}', "error_type"), "{{error_type}}"),
            (rate(f"dynamo_frontend_http_refusals_total{{{F}}}", "status"), "refused head, {{status}}"),
        ],
        about="Of all models: a request for one that nobody serves counts as unknown_model.",
    ),
    panel("Time to first token", "s", quantiles("dynamo_frontend_time_to_first_token_seconds", M)),
    panel("Time between tokens", "s", quantiles("dynamo_frontend_inter_token_latency_seconds", M)),
    panel("Request duration", "s", quantiles("dynamo_frontend_request_duration_seconds", M)),
    panel(
        "Time to first token, all requests",
        "s",
        [(rate(f"dynamo_frontend_time_to_first_token_seconds_bucket{{{M}}}", "le"), "{{le}}")],
        "heatmap",
    ),
    panel(
        "Tokens",
        "suffix: tok/s",
        [
            (rate(f"dynamo_frontend_input_sequence_tokens_sum{{{M}}}"), "prompt"),
            (rate(f"dynamo_frontend_cached_tokens_sum{{{M}}}"), "of it cached"),
            (rate(f"dynamo_frontend_output_tokens_total{{{M}}}"), "made"),
        ],
    ),
    panel(
        "Requests under way",
        "short",
        [
            (f"sum(dynamo_frontend_active_requests{{{M}}})", "in hand"),
            (f"sum(dynamo_frontend_queued_requests{{{M}}})", "without a first byte yet"),
            (f"sum by (stage) (dynamo_frontend_stage_requests{{{F}}})", "{{stage}}"),
        ],
    ),
    panel(
        "Where the time to the first token goes (p95)",
        "s",
        [(quantile(0.95, "dynamo_frontend_stage_duration_seconds", F, "stage"), "{{stage}}")],
    ),
    panel(
        "Cancelled, left, shed",
        "reqps",
        [
            (rate(f"dynamo_frontend_model_cancellation_total{{{M}}}"), "cancelled by callers"),
            (rate(f"dynamo_frontend_shed_requests_total{{{F}}}", "reason"), "shed: {{reason}}"),
            (rate(f"dynamo_frontend_body_memory_refusals_total{{{F}}}"), "no memory for bodies"),
        ],
    ),
    panel(
        "Connections",
        "short",
        [
            (f"sum by (instance) (dynamo_frontend_open_connections{{{F}}})", "open, {{instance}}"),
            (rate(f"dynamo_frontend_accepted_connections_total{{{F}}}"), "accepted a second"),
            (rate(f"dynamo_frontend_refused_connections_total{{{F}}}"), "refused a second"),
        ],
    ),
    panel(
        "Memory of the frontends",
        "bytes",
        [
            (f"process_resident_memory_bytes{{{F}}}", "resident, {{instance}}"),
            (f"dynamo_frontend_body_memory_bytes{{{F}}}", "request bodies, {{instance}}"),
        ],
    ),
]

ROUTING = [
    stat("Decisions", "reqps", rate(f"dynamo_component_router_requests_total{{{F}}}")),
    stat("Prompt blocks found cached", "percentunit", mean("dynamo_component_router_kv_hit_rate", F)),
    stat("Time of a decision (p99)", "ms", quantile(0.99, "dynamo_router_overhead_total_ms", F)),
    stat("Workers to choose from", "short", f"sum(dynamo_component_router_worker_registered{{{F}}})"),
    panel(
        "Cached prompt tokens",
        "suffix: tok/s",
        [
            (rate(f"dynamo_component_router_kv_best_eligible_cached_prefix_tokens_total{{{F}}}"), "best worker has"),
            (rate(f"dynamo_component_router_kv_selected_cached_prefix_tokens_total{{{F}}}"), "chosen worker has"),
            (rate(f"dynamo_component_router_kv_worker_reused_tokens_total{{{F}}}"), "engines reported"),
        ],
        about="The first two lie apart where load outweighs the cache; the last two where the router is wrong.",
    ),
    panel("Share of a prompt found cached", "percentunit", [(mean("dynamo_component_router_kv_hit_rate", F), "mean")]),
    panel(
        "Chosen against the longest prefix",
        "reqps",
        [(rate(f"dynamo_component_router_non_max_overlap_selections_total{{{F}}}"), "requests")],
    ),
    panel(
        "Expected and reported cache, difference",
        "percentunit",
        [(mean("dynamo_frontend_kv_truth_drift_ratio", F), "mean share of the prompt")],
        about="Empty until a prompt of 64 tokens or more has come back with the engine's figures.",
    ),
    panel(
        "Time of a decision (p99)",
        "ms",
        [
            overhead("total", "all"),
            overhead("block_hashing", "hashing"),
            overhead("indexer_find_matches", "looking up"),
            overhead("scheduling", "choosing"),
        ],
    ),
    panel(
        "Waiting for the routing state",
        "percentunit",
        [(rate(f"dynamo_frontend_routing_lock_wait_seconds_sum{{{F}}}", "instance"), "{{instance}}")],
        about="Share of a core that event loops stand still for each other. Only waits are counted: 0 is usual.",
    ),
    panel(
        "Requests that wait for a worker",
        "short",
        [
            (f'sum(dynamo_frontend_stage_requests{{{F}, stage="route"}})', "being routed"),
            (f"sum by (model) (dynamo_frontend_router_queue_pending_requests{{{M}}})", "in the queue, {{model}}"),
        ],
        about="The queue's figures are there with --router-queue-threshold.",
    ),
    panel(
        "Retries and workers set aside",
        "ops",
        [
            (rate(f"dynamo_frontend_request_retries_total{{{F}}}"), "retries"),
            (rate(f"dynamo_frontend_worker_exclusions_total{{{F}}}"), "workers set aside"),
        ],
    ),
    panel(
        "Prefix index",
        "bytes",
        [(f"dynamo_frontend_routing_index_bytes{{{F}}}", "{{instance}}")],
        about="Of predicted caches; 0 where all engines publish cache events.",
    ),
    panel(
        "Blocks that engines told to hold", "short", [(f"dynamo_frontend_kv_event_blocks{{{F}}}", "{{worker_id}}")]
    ),
    panel(
        "Cache events",
        "ops",
        [
            (rate(f"dynamo_frontend_kv_events_total{{{F}}}", "worker_id"), "{{worker_id}}"),
            (rate(f"dynamo_frontend_kv_event_missed_batches_total{{{F}}}"), "batches missed"),
            (rate(f"dynamo_frontend_kv_event_faults_total{{{F}}}", "fault"), "fault: {{fault}}"),
        ],
        about="Empty for workers that publish none: their caches are predicted.",
    ),
    panel(
        "Source of the truth about a worker's cache",
        "short",
        [(f"dynamo_frontend_kv_event_source{{{F}}}", "{{worker_id}}: {{reason}}")],
        about="1 by its events, 0 predicted; the reason says why.",
    ),
]

WORKERS = [
    stat("Workers that can serve", "short", f"sum(dynamo_frontend_worker_up{{{F}}})"),
    stat("Set aside or draining", "short", f"count(dynamo_frontend_worker_up{{{F}}} == 0) or vector(0)"),
    stat("Requests in hand at workers", "short", f"sum(dynamo_component_inflight_requests{{{W}}})"),
    stat("Prompt tokens found cached", "percentunit", f"avg(dynamo_component_kv_cache_hit_rate{{{W}}})"),
    panel("Workers of a model", "short", [(f"dynamo_frontend_model_workers{{{M}}}", "{{model}}")]),
    panel("A worker can serve", "short", [(f"dynamo_frontend_worker_up{{{F}}}", "{{worker_id}}")]),
    panel(
        "Cache blocks of live requests, as routed",
        "short",
        [(f"sum by (worker_id) (dynamo_frontend_worker_active_decode_blocks{{{F}}})", "{{worker_id}}")],
    ),
    panel(
        "Prompt tokens to compute, as routed",
        "short",
        [(f"sum by (worker_id) (dynamo_frontend_worker_active_prefill_tokens{{{F}}})", "{{worker_id}}")],
    ),
    panel(
        "Latest time to first token",
        "s",
        [(f"max by (worker_id) (dynamo_frontend_worker_last_time_to_first_token_seconds{{{F}}})", "{{worker_id}}")],
    ),
    panel(
        "Latest mean time between tokens",
        "s",
        [(f"max by (worker_id) (dynamo_frontend_worker_last_inter_token_latency_seconds{{{F}}})", "{{worker_id}}")],
    ),
    panel(
        "Requests by worker", "reqps", [(rate(f"dynamo_component_requests_total{{{W}}}", "instance"), "{{instance}}")]
    ),
    panel(
        "Requests in hand", "short", [(f"sum by (instance) (dynamo_component_inflight_requests{{{W}}})", "{{instance}}")]
    ),
    panel(
        "Request duration at the worker (p95)",
        "s",
        [(quantile(0.95, "dynamo_component_request_duration_seconds", W, "instance"), "{{instance}}")],
    ),
    panel(
        "Failed and cancelled at the worker",
        "reqps",
        [
            (rate(f"dynamo_component_errors_total{{{W}}}", "error_type"), "{{error_type}}"),
            (rate(f"dynamo_component_cancellation_total{{{W}}}"), "cancelled"),
        ],
    ),
    panel("Cache in use", "percentunit", [(f"dynamo_component_gpu_cache_usage_percent{{{W}}}", "{{instance}}")]),
    panel("Bytes answered", "Bps", [(rate(f"dynamo_component_response_bytes_total{{{W}}}", "instance"), "{{instance}}")]),
]

HEALTH = [
    stat("Processes up", "short", f"sum(up{{{ALL}}})"),
    stat("Spans lost", "short", f"sum(increase(dynamo_trace_spans_dropped_total{{{ALL}}}[$__range]))"),
    stat("Spans on their way", "short", f"sum(dynamo_trace_spans_pending{{{ALL}}})"),
    stat("Log lines lost", "short", f"sum(increase(dynamo_log_lines_dropped_total{{{ALL}}}[$__range]))"),
    panel(
        "Spans",
        "ops",
        [
            (rate(f"dynamo_trace_spans_made_total{{{ALL}}}", "job"), "made, {{job}}"),
            (rate(f"dynamo_trace_spans_sent_total{{{ALL}}}", "job"), "sent, {{job}}"),
        ],
    ),
    panel("Spans lost, by reason", "ops", [(rate(f"dynamo_trace_spans_dropped_total{{{ALL}}}", "reason"), "{{reason}}")]),
    panel(
        "Spans that wait",
        "short",
        [
            (f"dynamo_trace_export_queue_spans{{{ALL}}}", "queue, {{instance}}"),
            (f"dynamo_trace_spans_spooled{{{ALL}}}", "spool, {{instance}}"),
        ],
        about="The spool is there with DYN_TRACE_SPOOL_DIR.",
    ),
    panel(
        "Memory and disk of waiting spans",
        "bytes",
        [
            (f"dynamo_trace_export_queue_bytes{{{ALL}}}", "queue, {{instance}}"),
            (f"dynamo_trace_spool_bytes{{{ALL}}}", "spool, {{instance}}"),
        ],
    ),
    panel("Export calls by status", "ops", [(rate(f"dynamo_trace_export_requests_total{{{ALL}}}", "status"), "{{status}}")]),
    panel("Connected to the collector", "short", [(f"dynamo_trace_export_connected{{{ALL}}}", "{{instance}}")]),
    panel(
        "Event loops are late by (p99)",
        "s",
        [(quantile(0.99, "dynamo_frontend_event_loop_delay_seconds", F, "instance"), "{{instance}}")],
    ),
    panel(
        "Event loops late by more than 5 ms",
        "ops",
        [(rate(f"dynamo_frontend_event_loop_stall_total{{{F}}}", "instance"), "{{instance}}")],
    ),
    panel("CPU", "percentunit", [(f"rate(process_cpu_seconds_total{{{ALL}}}[$__rate_interval])", "{{job}} {{instance}}")]),
    panel("Resident memory", "bytes", [(f"process_resident_memory_bytes{{{ALL}}}", "{{job}} {{instance}}")]),
    panel(
        "Open descriptors",
        "short",
        [(f"process_open_fds{{{ALL}}}", "{{job}} {{instance}}")],
        about="Needs Linux 6.2.",
    ),
    panel(
        "Configuration read again",
        "short",
        [(f"sum by (result) (increase(dynamo_frontend_reloads_total{{{F}}}[$__range]))", "{{result}}")],
    ),
    panel(
        "Versions",
        "short",
        [(f"count by (service, version) (dynamo_build_info{{{ALL}}})", "{{service}} {{version}}")],
    ),
    panel("Up since", "s", [(f"time() - process_start_time_seconds{{{ALL}}}", "{{job}} {{instance}}")]),
]

TRACES = [
    traces(
        "The request with this x-request-id",
        '{ span.x_request_id =~ "$x_request_id" && name = "http-request" }',
        "Type an id above; .* is every request.",
    ),
    traces("Latest requests", '{ name = "http-request" }'),
    traces("Failed", '{ name = "http-request" && status = error }'),
    traces("Longer than $slow", '{ name = "http-request" && duration > $slow }'),
    traces(
        "Served by a worker that reports spans",
        '{ name = "http-request" } >> { name = "handle_payload" }',
        "Requests without a worker's span: it exports none, or somewhere else.",
    ),
    panel(
        "Spans made",
        "ops",
        [(rate('dynamo_trace_spans_made_total{job=~"dynamo-.*"}', "job"), "{{job}}")],
        about="Where this moves and no trace is above, look at the dashboard on health.",
    ),
]


def variable(name: str, label: str, query: str) -> dict:
    return {
        "name": name,
        "label": label,
        "type": "query",
        "datasource": PROMETHEUS,
        "query": {"query": query, "refId": name},
        "definition": query,
        "includeAll": True,
        "multi": True,
        "allValue": ".*",
        "current": {"text": ["All"], "value": ["$__all"]},
        "refresh": 2,
        "sort": 1,
    }


def text_box(name: str, label: str, value: str) -> dict:
    option = {"text": value, "value": value}
    return {"name": name, "label": label, "type": "textbox", "query": value, "current": option, "options": [option]}


MODEL = variable("model", "Model", "label_values(dynamo_frontend_requests_started_total, model)")
FRONTEND = variable("instance", "Frontend", 'label_values(up{job="dynamo-frontend"}, instance)')
PROCESS = variable("instance", "Process", 'label_values(up{job=~"dynamo-.*"}, instance)')

DASHBOARDS = {
    "requests": ("Dynamo: requests and latency", [FRONTEND, MODEL], REQUESTS),
    "routing": ("Dynamo: routing", [FRONTEND, MODEL], ROUTING),
    "workers": ("Dynamo: workers", [FRONTEND, MODEL], WORKERS),
    "health": ("Dynamo: exporters and processes", [PROCESS], HEALTH),
    "traces": ("Dynamo: traces", [text_box("x_request_id", "x-request-id", ".*"), text_box("slow", "Slow from", "2s")], TRACES),
}


def target(kind: str, index: int, query: str, legend: str) -> dict:
    ref = chr(ord("A") + index)
    if kind == "traces":
        return {
            "refId": ref, "datasource": TEMPO, "queryType": "traceql", "query": query, "limit": 20, "spss": 3,
            "tableType": "traces",
        }  # fmt: skip
    answer = {"refId": ref, "datasource": PROMETHEUS, "expr": query, "legendFormat": legend or "__auto", "editorMode": "code"}
    if kind == "stat":
        return answer | {"instant": True, "range": False}
    answer |= {"instant": False, "range": True}
    if kind == "heatmap":
        answer["format"] = "heatmap"
    if "histogram_quantile" in query:
        answer["exemplar"] = True
    return answer


def grafana_panel(spec: dict, number: int, place: dict) -> dict:
    kind = spec["kind"]
    defaults: dict = {"unit": spec["unit"]} if spec["unit"] else {}
    options: dict = {}
    if kind == "timeseries":
        defaults["custom"] = {"fillOpacity": 8, "lineWidth": 1, "showPoints": "auto"}
        defaults["min"] = 0
        options = {
            "legend": {"displayMode": "list", "placement": "bottom", "showLegend": True},
            "tooltip": {"mode": "multi", "sort": "desc"},
        }
    elif kind == "stat":
        options = {"colorMode": "none", "graphMode": "area", "reduceOptions": {"calcs": ["lastNotNull"]}}
    elif kind == "heatmap":
        options = {"calculate": False, "yAxis": {"unit": spec["unit"]}, "color": {"mode": "scheme", "scheme": "Blues"}}
    return {
        "id": number,
        "type": "table" if kind == "traces" else kind,
        "title": spec["title"],
        "description": spec["about"],
        "datasource": TEMPO if kind == "traces" else PROMETHEUS,
        "gridPos": place,
        "fieldConfig": {"defaults": defaults, "overrides": []},
        "options": options,
        "targets": [target(kind, index, query, legend) for index, (query, legend) in enumerate(spec["queries"])],
    }


def dashboard(name: str) -> dict:
    title, variables, specs = DASHBOARDS[name]
    panels, x, y = [], 0, 0
    for number, spec in enumerate(specs, 1):
        width, height = {"stat": (6, 4), "traces": (24, 8)}.get(spec["kind"], (12, 8))
        if x + width > 24:
            x, y = 0, y + panels[-1]["gridPos"]["h"]
        panels.append(grafana_panel(spec, number, {"x": x, "y": y, "w": width, "h": height}))
        x += width
    return {
        "uid": f"dynamo-{name}",
        "title": title,
        "tags": ["dynamo"],
        "schemaVersion": 41,
        "editable": True,
        "refresh": "10s",
        "time": {"from": "now-30m", "to": "now"},
        "timezone": "browser",
        "links": [{"type": "dashboards", "title": "Dynamo", "tags": ["dynamo"], "keepTime": True, "asDropdown": True}],
        "templating": {"list": variables},
        "annotations": {"list": []},
        "panels": panels,
    }


def main() -> int:
    stale = []
    for name in DASHBOARDS:
        path = FOLDER / f"{name}.json"
        text = json.dumps(dashboard(name), indent=1) + "\n"
        if "--check" not in sys.argv:
            path.write_text(text)
        elif not path.exists() or path.read_text() != text:
            stale.append(path.name)
    if stale:
        print(f"run Scripts/dashboards.py: {', '.join(stale)}", file=sys.stderr)
    return 1 if stale else 0


if __name__ == "__main__":
    sys.exit(main())
