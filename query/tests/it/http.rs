//! HTTP itself: methods, sizes, auth, probes, pages.

use std::time::Duration;

use bytes::Bytes;
use hyper::Method;
use lanecast_query::{QueryConfig, QueryServer, StartError, limits};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::api::{get, get_with, load_document, send};
use crate::fake::{Fake, Manner};
use crate::world::config;

/// A service whose store is never asked anything.
async fn service(change: impl FnOnce(&mut QueryConfig)) -> QueryServer {
    let fake = Fake::start(Manner::Silent).await;
    let mut config = config(fake.store());
    change(&mut config);
    let server = QueryServer::start(config).await.unwrap();
    load_document(server.addr()).await;
    server
}

/// Sends bytes and returns all that comes back until the service closes.
pub(crate) async fn raw(server: &QueryServer, bytes: &[u8]) -> String {
    let mut socket = TcpStream::connect(server.addr()).await.unwrap();
    socket.write_all(bytes).await.unwrap();
    let mut answer = Vec::new();
    // A reset after the answer is as good an end as any.
    let _ = socket.read_to_end(&mut answer).await;
    String::from_utf8_lossy(&answer).into_owned()
}

#[tokio::test]
async fn unknown_path_is_a_404_problem() {
    let server = service(|_| {}).await;
    for path in ["/nothing", "/api/v1", "/api/v1/gpus/", "/api/v1/gpus/a/b/c", "/swagger/x.js"] {
        let reply = get_with(server.addr(), path, &[("x-request-id", "mine-1")]).await;
        let problem = reply.expect(404).json();
        assert_eq!(problem["type"], "urn:lanecast:problem:not-found", "{path}");
        assert_eq!(problem["request_id"], "mine-1");
    }
}

#[tokio::test]
async fn other_methods_are_405_with_allow() {
    let server = service(|_| {}).await;
    for method in [Method::POST, Method::PUT, Method::DELETE, Method::PATCH, Method::TRACE] {
        let reply = send(server.addr(), method, "/api/v1/gpus", &[], Bytes::new()).await;
        let reply = reply.expect(405);
        assert_eq!(reply.header("allow"), Some("GET, HEAD, OPTIONS"));
        assert_eq!(reply.header("content-type"), Some("application/problem+json"));
    }
}

#[tokio::test]
async fn options_says_what_is_allowed_and_head_has_no_body() {
    let server = service(|_| {}).await;
    let options = send(server.addr(), Method::OPTIONS, "/api/v1/gpus", &[], Bytes::new()).await;
    let options = options.expect(204);
    assert_eq!(options.header("allow"), Some("GET, HEAD, OPTIONS"));
    assert!(
        raw(&server, b"OPTIONS * HTTP/1.1\r\nhost: t\r\nconnection: close\r\n\r\n")
            .await
            .starts_with("HTTP/1.1 204")
    );
    let head = send(server.addr(), Method::HEAD, "/openapi.json", &[], Bytes::new()).await;
    let full = get(server.addr(), "/openapi.json").await;
    let head = head.expect(200);
    assert!(head.body.is_empty());
    assert_eq!(head.header("content-length"), Some(full.body.len().to_string().as_str()));
}

#[tokio::test]
async fn every_answer_has_a_request_id_and_only_a_harmless_one_is_kept() {
    let server = service(|_| {}).await;
    let own = get(server.addr(), "/healthz").await;
    assert!(!own.header("x-request-id").unwrap().is_empty());
    let kept = get_with(server.addr(), "/healthz", &[("x-request-id", "trace-7")]).await;
    assert_eq!(kept.header("x-request-id"), Some("trace-7"));
    let replaced = get_with(server.addr(), "/healthz", &[("x-request-id", "a\"b<c>")]).await;
    assert_ne!(replaced.header("x-request-id"), Some("a\"b<c>"));
}

#[tokio::test]
async fn too_large_requests_are_413_414_and_431() {
    let server = service(|_| {}).await;
    let addr = server.addr();
    let body = Bytes::from(vec![b'x'; limits::BODY_BYTES_MAX + 1]);
    let reply = send(addr, Method::POST, "/api/v1/gpus", &[], body).await.expect(413);
    assert_eq!(reply.json()["status"], 413);

    let chunk = "x".repeat(limits::BODY_BYTES_MAX);
    let chunked = format!(
        "POST /healthz HTTP/1.1\r\nhost: t\r\ntransfer-encoding: chunked\r\n\r\n{:x}\r\n{chunk}\r\n5\r\nhello\r\n",
        chunk.len()
    );
    let answer = raw(&server, chunked.as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 413"), "{answer}");

    let long = format!("/api/v1/gpus?host={}", "x".repeat(limits::URI_BYTES_MAX));
    assert_eq!(get(addr, &long).await.expect(414).json()["status"], 414);

    let value = "x".repeat(limits::HEADER_BYTES_MAX);
    let reply = get_with(addr, "/api/v1/gpus", &[("x-large", &value)]).await.expect(431);
    assert_eq!(reply.json()["status"], 431);

    // Far above all limits hyper itself refuses, and the service lives on.
    let huge =
        format!("GET / HTTP/1.1\r\nx: {}\r\n\r\n", "x".repeat(4 * limits::READ_BUFFER_BYTES));
    assert!(raw(&server, huge.as_bytes()).await.starts_with("HTTP/1.1 431"));
    let many = "x: y\r\n".repeat(limits::HEADERS_MAX + 1);
    let many = format!("GET / HTTP/1.1\r\n{many}\r\n");
    assert!(raw(&server, many.as_bytes()).await.starts_with("HTTP/1.1 431"));
    get(addr, "/healthz").await.expect(200);
}

#[tokio::test]
async fn small_body_is_read_and_the_connection_goes_on() {
    let server = service(|_| {}).await;
    let twice = "GET /healthz HTTP/1.1\r\nhost: t\r\ncontent-length: 5\r\n\r\nhello\
                 GET /livez HTTP/1.1\r\nhost: t\r\nconnection: close\r\n\r\n";
    let answer = raw(&server, twice.as_bytes()).await;
    assert_eq!(answer.matches("HTTP/1.1 200").count(), 2, "{answer}");
}

#[tokio::test]
async fn garbage_is_refused_and_the_service_lives_on() {
    let server = service(|_| {}).await;
    for garbage in [
        &b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"[..],
        b"GET /\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET / HTTP/1.1\r\ncontent-length: -1\r\n\r\n",
        b"GET /%zz HTTP/1.1\r\nhost: t\r\nconnection: close\r\n\r\n",
        b"\0\0\0\0\r\n\r\n",
    ] {
        let answer = raw(&server, garbage).await;
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 4"), "{answer}");
    }
    get(server.addr(), "/healthz").await.expect(200);
}

#[tokio::test]
async fn client_that_never_ends_its_head_is_cut_off() {
    let quick = |config: &mut QueryConfig| config.header_read_timeout = Duration::from_millis(50);
    let server = service(quick).await;
    // Ends when the service closes; before the first byte, in a head, and between two requests.
    for bytes in
        [&b""[..], b"GET /healthz HTTP/1.1\r\nx: ", b"GET /healthz HTTP/1.1\r\nhost: t\r\n\r\n"]
    {
        raw(&server, bytes).await;
    }
}

#[tokio::test]
async fn connections_are_bounded_and_the_next_one_waits() {
    let server = service(|config| config.connections_max = 1).await;
    let mut first = TcpStream::connect(server.addr()).await.unwrap();
    first.write_all(b"GET /healthz HTTP/1.1\r\nhost: t\r\n\r\n").await.unwrap();
    assert!(first.read(&mut [0; 1024]).await.unwrap() > 0);
    let mut second = TcpStream::connect(server.addr()).await.unwrap();
    second.write_all(b"GET /healthz HTTP/1.1\r\nhost: t\r\n\r\n").await.unwrap();
    let mut byte = [0];
    let waited = tokio::time::timeout(Duration::from_millis(50), second.read(&mut byte)).await;
    assert!(waited.is_err(), "served beside the first");
    drop(first);
    assert_eq!(second.read(&mut byte).await.unwrap(), 1);
}

#[tokio::test]
async fn questions_need_the_token_and_probes_and_pages_do_not() {
    let server = service(|config| config.auth_token = Some("s3cret".into())).await;
    let addr = server.addr();
    for path in ["/api/v1/gpus", "/api/v1/gpus/GPU-1", "/api/v1/gpus/GPU-1/telemetry"] {
        for headers in
            [&[][..], &[("authorization", "Bearer wrong")], &[("authorization", "s3cret")]]
        {
            let reply = get_with(addr, path, headers).await.expect(401);
            assert!(reply.header("www-authenticate").unwrap().starts_with("Bearer"));
            assert_eq!(reply.json()["type"], "urn:lanecast:problem:unauthorized");
        }
        // With the token the request goes on, to where its parameter is refused.
        let right = [("authorization", "Bearer s3cret")];
        get_with(addr, &format!("{path}?nonsense=1"), &right).await.expect(400);
    }
    for path in
        ["/healthz", "/livez", "/metrics", "/openapi.json", "/openapi.yaml", "/", "/swagger/"]
    {
        get(addr, path).await.expect(200);
    }
}

#[tokio::test]
async fn without_a_token_only_loopback_is_bound_unless_insisted() {
    let fake = Fake::start(Manner::Silent).await;
    let open = |token: Option<&str>, insecure_no_auth| QueryConfig {
        bind: "0.0.0.0:0".parse().unwrap(),
        auth_token: token.map(str::to_owned),
        insecure_no_auth,
        ..config(fake.store())
    };
    for token in [None, Some("")] {
        let refused = QueryServer::start(open(token, false)).await.unwrap_err();
        assert!(matches!(refused, StartError::OpenToAll { .. }), "{refused}");
    }
    QueryServer::start(open(None, true)).await.unwrap().shutdown().await;
    QueryServer::start(open(Some("t"), false)).await.unwrap().shutdown().await;
}

#[tokio::test]
async fn settings_that_cannot_be_are_refused_and_a_taken_port_is_named() {
    let fake = Fake::start(Manner::Silent).await;
    let server = service(|_| {}).await;
    let taken = QueryConfig { bind: server.addr(), ..config(fake.store()) };
    let error = QueryServer::start(taken).await.unwrap_err().to_string();
    assert!(error.contains(&server.addr().to_string()), "{error}");
    for rows in [0, 10_001] {
        let config = QueryConfig { default_page_size: rows, ..config(fake.store()) };
        assert!(matches!(QueryServer::start(config).await, Err(StartError::PageSize { .. })));
    }
}

#[tokio::test]
async fn swagger_ui_is_served_from_the_service_alone() {
    let server = service(|_| {}).await;
    let addr = server.addr();
    let redirect = get(addr, "/swagger").await.expect(308);
    assert_eq!(redirect.header("location"), Some("/swagger/"));
    let page = get(addr, "/swagger/index.html").await.expect(200);
    assert_eq!(page.body, get(addr, "/swagger/").await.expect(200).body);
    assert!(page.header("content-security-policy").unwrap().contains("default-src 'none'"));
    let page = page.text();
    assert!(!page.contains("http://") && !page.contains("https://"), "{page}");
    for (path, media_type) in [
        ("/swagger/swagger-ui-bundle.js", "text/javascript"),
        ("/swagger/swagger-ui.css", "text/css"),
        ("/swagger/start.js", "text/javascript"),
        ("/swagger/favicon-32x32.png", "image/png"),
    ] {
        assert!(page.contains(path), "the page does not use {path}");
        let plain = get(addr, path).await.expect(200);
        assert!(plain.header("content-type").unwrap().starts_with(media_type));
        assert!(plain.header("content-encoding").is_none());
        let packed = get_with(addr, path, &[("accept-encoding", "gzip")]).await.expect(200);
        if packed.header("content-encoding") == Some("gzip") {
            assert!(packed.body.len() < plain.body.len() / 2);
        }
        let zstd = get_with(addr, path, &[("accept-encoding", "zstd")]).await.expect(200);
        if zstd.header("content-encoding") == Some("zstd") {
            assert_eq!(zstd::decode_all(&zstd.body[..]).unwrap(), plain.body);
        } else {
            assert_eq!(zstd.body, plain.body);
        }
    }
}

#[tokio::test]
async fn document_is_openapi_3_1_in_both_forms() {
    let server = service(|config| config.default_page_size = 37).await;
    let json = get(server.addr(), "/openapi.json").await.expect(200);
    assert_eq!(json.header("content-type"), Some("application/json"));
    let json = json.json();
    assert_eq!(json["openapi"], "3.1.0");
    let parameters = &json["paths"]["/api/v1/gpus/{id}/telemetry"]["get"]["parameters"];
    let limit = parameters.as_array().unwrap().iter().find(|p| p["name"] == "limit").unwrap();
    assert_eq!(limit["schema"]["default"], 37);
    let yaml = get(server.addr(), "/openapi.yaml").await.expect(200);
    assert_eq!(yaml.header("content-type"), Some("application/yaml"));
    assert!(yaml.text().contains("openapi: 3.1.0"));
}

#[tokio::test]
async fn landing_page_links_to_what_there_is() {
    let server = service(|_| {}).await;
    let page = get(server.addr(), "/").await.expect(200);
    assert_eq!(page.header("content-type"), Some("text/html; charset=utf-8"));
    for link in ["/swagger/", "/openapi.json", "/openapi.yaml", "/metrics", "/healthz"] {
        assert!(page.text().contains(&format!("href=\"{link}\"")), "{link}");
        get(server.addr(), link).await.expect(200);
    }
}

#[tokio::test]
async fn metrics_count_requests_by_route_and_status() {
    let server = service(|_| {}).await;
    let addr = server.addr();
    get(addr, "/api/v1/gpus?nonsense=1").await.expect(400);
    get(addr, "/api/v1/gpus/5/telemetry").await.expect(400);
    get(addr, "/some/path").await.expect(404);
    let text = get(addr, "/metrics").await.expect(200).text();
    for line in [
        "lanecast_query_requests_total{route=\"/api/v1/gpus\",status=\"400\"} 1",
        "lanecast_query_requests_total{route=\"/api/v1/gpus/{id}/telemetry\",status=\"400\"} 1",
        "lanecast_query_requests_total{route=\"other\",status=\"404\"} 1",
        "lanecast_query_requests_in_flight 1",
    ] {
        assert!(text.lines().any(|found| found == line), "{line}\n{text}");
    }
    assert!(!text.contains("/some/path"), "a path must not become a label");
}
