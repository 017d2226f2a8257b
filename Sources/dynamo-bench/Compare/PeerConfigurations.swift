// Configuration files of the proxies that are compared with, as peers are commonly run: two threads or processes,
// kept-alive connections to the workers, nothing buffered, no access log.

import Glibc

/// Configuration text for programs that take no flags.
enum PeerConfigurations {
  /// nginx as two workers that pass every byte on at once.
  static func nginx(port: UInt16, workers: [UInt16], directory: String) -> String {
    let servers = workers.map { "    server 127.0.0.1:\($0);" }.joined(separator: "\n")
    // As root, the workers would become a user that may not enter the folder.
    let user = geteuid() == 0 ? "user root;\n" : ""
    return """
      \(user)daemon off;
      worker_processes 2;
      pid \(directory)/nginx.pid;
      error_log \(directory)/nginx-error.log warn;
      events { worker_connections 8192; }
      http {
        access_log off;
        client_body_temp_path \(directory)/nginx-body;
        proxy_temp_path \(directory)/nginx-proxy;
        fastcgi_temp_path \(directory)/nginx-fastcgi;
        uwsgi_temp_path \(directory)/nginx-uwsgi;
        scgi_temp_path \(directory)/nginx-scgi;
        upstream workers {
      \(servers)
          keepalive 512;
        }
        server {
          listen 127.0.0.1:\(port) backlog=4096;
          client_body_buffer_size 256k;
          location / {
            proxy_pass http://workers;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
            proxy_buffering off;
            proxy_read_timeout 600s;
          }
        }
      }

      """
  }

  /// HAProxy on two threads; on `promptPort` it sends small chunks on at once instead of gathering them.
  static func haproxy(port: UInt16, promptPort: UInt16, workers: [UInt16]) -> String {
    let servers = workers.enumerated().map { "  server w\($0.offset) 127.0.0.1:\($0.element)" }
      .joined(separator: "\n")
    return """
      global
        nbthread 2
        maxconn 8192

      defaults
        mode http
        timeout connect 3s
        timeout client 600s
        timeout server 600s
        http-reuse always

      frontend gathering
        bind 127.0.0.1:\(port)
        default_backend workers

      frontend prompt
        bind 127.0.0.1:\(promptPort)
        option http-no-delay
        default_backend workers-prompt

      backend workers
        balance roundrobin
      \(servers)

      backend workers-prompt
        balance roundrobin
        option http-no-delay
      \(servers)

      """
  }
}
