//! Requests that mean harm, and HTTP as it is on the wire.

use lanecast_clickhouse::limits::QUERY_BYTES_MAX;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::support::{encoded, fresh_name, http, send, server};

/// A database with a table `victim` of one row, and the path that selects it.
struct Victim {
    url: &'static str,
    path: String,
}

impl Victim {
    /// `None` where the server is not the local one: what these tests ask for is its own.
    async fn new() -> Option<Victim> {
        let server = server().await;
        if !server.local {
            return None;
        }
        let url = server.url.as_str();
        let name = fresh_name();
        http(url, "/", "", format!("CREATE DATABASE {name}").as_bytes()).await;
        let victim = Victim { url, path: format!("/?database={name}") };
        let created =
            victim.run("CREATE TABLE victim (a Int64) ENGINE = MergeTree ORDER BY a").await;
        assert_eq!(created.status, 200, "{}", created.text());
        assert_eq!(victim.run("INSERT INTO victim VALUES (7)").await.status, 200);
        Some(victim)
    }

    async fn run(&self, sql: &str) -> crate::support::Reply {
        http(self.url, &self.path, "", sql.as_bytes()).await
    }

    async fn insert(&self, format: &str, more: &str, body: &[u8]) -> crate::support::Reply {
        let query = encoded(&format!("INSERT INTO victim FORMAT {format}"));
        http(self.url, &format!("{}&query={query}{more}", self.path), "", body).await
    }

    /// The table is there, with its one row.
    async fn is_unharmed(&self) {
        assert_eq!(self.run("SELECT groupArray(a) FROM victim").await.text(), "[7]\n");
    }
}

#[tokio::test]
async fn second_statements_never_run() {
    let Some(victim) = Victim::new().await else { return };
    for sql in [
        "SELECT 1; DROP TABLE victim",
        "SELECT 1;\n\nDROP TABLE victim",
        "SELECT 1 /* ; */ ; /* */ DROP TABLE victim",
        "SELECT ';' -- ' ;\n; DROP TABLE victim",
        "SELECT 'a\\''; DROP TABLE victim",
        "SELECT 'a''b'; DROP TABLE victim",
        "SELECT \"a;\"\"\" FROM (SELECT 1 AS \"a;\"\"\"); DROP TABLE victim",
        "SELECT $tag$ ; ' $tag$; DROP TABLE victim",
        "SELECT $$ ; ' $$; DROP TABLE victim",
        "SELECT ‘ ; ’; DROP TABLE victim",
        "SELECT 1 # ; '\n; DROP TABLE victim",
        "SELECT 1 /* /* */ ; DROP TABLE victim -- */",
        "SELECT 1 PARALLEL WITH DROP TABLE victim",
        "DROP TABLE nothing PARALLEL WITH DROP TABLE victim",
        "INSERT INTO victim SELECT 1; DROP TABLE victim",
        "INSERT INTO victim (a); DROP TABLE victim",
        "EXPLAIN SELECT 1; DROP TABLE victim",
        "INSERT INTO victim VALUES (1); DROP TABLE victim",
    ] {
        let in_body = victim.run(sql).await;
        assert_eq!((in_body.status, in_body.code()), (400, Some(62)), "{sql}: {}", in_body.text());
        let path = format!("{}&query={}", victim.path, encoded(sql));
        assert_eq!(http(victim.url, &path, "", b"").await.code(), Some(62), "{sql}");
        let form = format!(
            "--B\r\nContent-Disposition: form-data; name=\"query\"\r\n\r\n{sql}\r\n--B--\r\n"
        );
        let head = "Content-Type: multipart/form-data; boundary=B\r\n";
        assert_eq!(
            http(victim.url, &victim.path, head, form.as_bytes()).await.code(),
            Some(62),
            "{sql}"
        );
    }
    victim.is_unharmed().await;
}

#[tokio::test]
async fn values_stay_values() {
    let Some(victim) = Victim::new().await else { return };
    let drop = "1; DROP TABLE victim";
    for more in [
        format!("&max_threads={}", encoded("1; DROP TABLE victim")),
        format!("&log_comment={}", encoded("'; DROP TABLE victim; --")),
        format!("&{}=1", encoded("max_threads = 1; DROP TABLE victim; SET a")),
        format!("&param_x={}", encoded(drop)),
        format!("&database={}", encoded("default`; DROP TABLE victim; --")),
        format!("&default_format={}", encoded("CSV; DROP TABLE victim")),
    ] {
        let sql = encoded("SELECT 1 WHERE {x:String} != ''");
        let path = format!("{}&query={sql}{more}", victim.path);
        http(victim.url, &path, "", b"").await;
    }
    victim.is_unharmed().await;
}

#[tokio::test]
async fn insert_data_is_never_run() {
    let Some(victim) = Victim::new().await else { return };
    for format in ["CSV", "TSV", "JSONEachRow", "Values", "RowBinary", "Native", "LineAsString"] {
        for data in [
            "\n\nDROP TABLE victim\n",
            "\n\n\n\nDROP TABLE victim;\n\n",
            "{}\n\n\nDROP TABLE victim\n",
            "x\n\nDROP TABLE victim",
            "x;\nDROP TABLE victim",
        ] {
            victim.insert(format, "", data.as_bytes()).await;
            let sql = format!("INSERT INTO victim FORMAT {format}\n{data}");
            victim.run(&sql).await;
        }
    }
    let exists = victim.run("EXISTS TABLE victim").await.text();
    assert_eq!(exists, "1\n");
}

#[tokio::test]
async fn files_of_the_server_are_neither_read_nor_written() {
    let Some(victim) = Victim::new().await else { return };
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("out.csv");
    let path = file.display();
    std::fs::write(&file, "1\n").unwrap();
    for sql in [
        format!("SELECT 1 INTO OUTFILE '{path}'"),
        format!("SELECT 1 INTO/**/OUTFILE '{path}' TRUNCATE FORMAT CSV"),
        format!("(SELECT 1) INTO OUTFILE '{path}'"),
        format!("INSERT INTO FUNCTION file('{path}', CSV, 'a Int8') SELECT 1"),
        format!("INSERT INTO TABLE FUNCTION file('{path}', CSV, 'a Int8') VALUES (1)"),
        format!("CREATE TABLE out (a Int8) ENGINE = File(CSV, '{path}')"),
        "SELECT * FROM file('/etc/passwd', LineAsString)".to_owned(),
        "SELECT * FROM default.`/etc/passwd`".to_owned(),
        format!("INSERT INTO default.`{path}` SELECT 1"),
        format!("INSERT INTO default.`{path}` FORMAT CSV\n1\n"),
        "SELECT * FROM url('file:///etc/passwd', LineAsString)".to_owned(),
        "SELECT * FROM url('http://127.0.0.1:1/', LineAsString, 'a String')".to_owned(),
        "SELECT * FROM remote('127.0.0.1:1', system.one)".to_owned(),
        "SELECT * FROM eval('SELECT * FROM fi' || 'le(''/etc/passwd'', LineAsString)')".to_owned(),
        "SELECT * FROM filesystem('/etc')".to_owned(),
        "SELECT * FROM icebergLocal('/etc')".to_owned(),
        "CREATE DATABASE fs ENGINE = Filesystem('/')".to_owned(),
        "CREATE DATABASE fs ENGINE Filesystem".to_owned(),
        format!("CREATE DATABASE fs ENGINE = SQLite('{path}')"),
        format!("CREATE TABLE out ENGINE = `File`(CSV, '{path}') AS SELECT 1"),
        "CREATE DICTIONARY d (a UInt64, b String) PRIMARY KEY a LAYOUT(FLAT()) LIFETIME(0) \
         SOURCE(EXECUTABLE(COMMAND 'id' FORMAT 'TSV'))"
            .to_owned(),
        format!("BACKUP DATABASE default TO File('{path}')"),
        "SELECT 1 FORMAT Template SETTINGS format_template_resultset = '/etc/passwd'".to_owned(),
        "SYSTEM SHUTDOWN".to_owned(),
        "CREATE USER root".to_owned(),
        "SELECT file('/etc/passwd')".to_owned(),
        "INSERT INTO victim FROM INFILE '/etc/passwd' FORMAT CSV".to_owned(),
    ] {
        let reply = victim.run(&sql).await;
        assert!(matches!(reply.code(), Some(446 | 497)), "{sql}: {}", reply.text());
        assert_eq!(reply.status, 403);
        let readonly = format!("{}&readonly=1", victim.path);
        let reply = http(victim.url, &readonly, "", sql.as_bytes()).await;
        assert!(matches!(reply.code(), Some(164 | 446 | 497)), "{sql}: {}", reply.text());
    }
    let by_name = encoded("SELECT * FROM default.{name:Identifier}");
    let path = format!("{}&param_name={}&query={by_name}", victim.path, encoded("/etc/passwd"));
    assert_eq!(http(victim.url, &path, "", b"").await.code(), Some(497));
    let setting = format!("{}&format_schema={}", victim.path, encoded("/etc/passwd:x"));
    assert_eq!(http(victim.url, &setting, "", b"SELECT 1").await.code(), Some(36));
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "1\n");
    victim.is_unharmed().await;
}

#[tokio::test]
async fn sql_beyond_the_limit_is_refused() {
    let Some(victim) = Victim::new().await else { return };
    let mut sql = "SELECT 1 -- ".to_owned();
    sql.push_str(&"x".repeat(QUERY_BYTES_MAX));
    let reply = victim.run(&sql).await;
    assert_eq!((reply.status, reply.code()), (400, Some(62)));
    let deep = format!("SELECT {}1{}", "(".repeat(20_000), ")".repeat(20_000));
    let reply = victim.run(&deep).await;
    assert_ne!(reply.status, 200);
    victim.is_unharmed().await;
}

/// One compressed block, as the official client makes them.
fn block(data: &[u8]) -> Vec<u8> {
    let packed = lz4_flex::block::compress(data);
    let mut body = vec![0x82];
    body.extend_from_slice(&(packed.len() as u32 + 9).to_le_bytes());
    body.extend_from_slice(&(data.len() as u32).to_le_bytes());
    body.extend_from_slice(&packed);
    let checksum = cityhash_rs::cityhash_102_128(&body).rotate_right(64).to_le_bytes();
    [&checksum[..], &body].concat()
}

#[tokio::test]
async fn damaged_compression_is_refused_and_nothing_of_it_is_written() {
    let Some(victim) = Victim::new().await else { return };
    let whole = block(b"1\n2\n3\n");
    let mut wrong_checksum = whole.clone();
    wrong_checksum[3] ^= 1;
    let mut wrong_data = whole.clone();
    *wrong_data.last_mut().unwrap() ^= 0x55;
    let mut bomb = whole.clone();
    bomb[21..25].copy_from_slice(&200_000_000_u32.to_le_bytes());
    let mut huge = whole.clone();
    huge[17..21].copy_from_slice(&u32::MAX.to_le_bytes());
    let second_broken = [&whole[..], &wrong_checksum].concat();
    for (body, code) in [
        (&whole[..whole.len() - 1], 33),
        (&whole[..10], 33),
        (&wrong_checksum, 40),
        (&wrong_data, 40),
        (&bomb, 271),
        (&huge, 131),
        (&second_broken, 40),
        (b"1\n2\n3\nplain text that is no block", 131),
    ] {
        let reply = victim.insert("CSV", "&decompress=1", body).await;
        assert_eq!((reply.status, reply.code()), (400, Some(code)), "{}", reply.text());
    }
    victim.is_unharmed().await;
    assert_eq!(victim.insert("CSV", "&decompress=1", &whole).await.status, 200);
    assert_eq!(victim.run("SELECT count() FROM victim").await.text(), "4\n");
}

#[tokio::test]
async fn a_body_that_breaks_off_is_not_committed() {
    let Some(victim) = Victim::new().await else { return };
    let query = encoded("INSERT INTO victim FORMAT CSV");
    let host = victim.url.trim_start_matches("http://");
    for framing in
        ["Content-Length: 1000\r\n\r\n1\n2\n", "Transfer-Encoding: chunked\r\n\r\n4\r\n1\n2\n\r\n"]
    {
        let mut stream = TcpStream::connect(host).await.unwrap();
        let request =
            format!("POST {}&query={query} HTTP/1.1\r\nHost: x\r\n{framing}", victim.path);
        stream.write_all(request.as_bytes()).await.unwrap();
        stream.shutdown().await.unwrap();
        // The end of the connection is the end of the request's handling.
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await.unwrap();
        assert!(!answer.starts_with(b"HTTP/1.1 200"));
    }
    victim.is_unharmed().await;
}

#[tokio::test]
async fn an_exception_in_mid_stream_is_marked_and_breaks_the_connection_off() {
    let Some(victim) = Victim::new().await else { return };
    for (more, framed) in [("", false), ("&compress=1", true)] {
        let sql = encoded(
            "SELECT number, throwIf(number = 900000) FROM numbers(1000000) SETTINGS max_threads = 1",
        );
        let path = format!("{}&query={sql}{more}", victim.path);
        let reply = http(victim.url, &path, "", b"").await;
        assert_eq!(reply.status, 200);
        assert!(!reply.complete, "the body must not end as if it were whole");
        let tag = reply.header("x-clickhouse-exception-tag").unwrap().to_owned();
        let text = if framed { unblocked(&reply.body) } else { reply.body };
        let text = String::from_utf8(text).unwrap();
        let message = text.split("__exception__\r\n").nth(1).unwrap();
        assert!(message.starts_with(&format!("{tag}\r\nCode: 395. DB::Exception: ")), "{message}");
        assert!(text.ends_with(&format!(" {tag}\r\n__exception__\r\n")));
    }
}

fn unblocked(mut rest: &[u8]) -> Vec<u8> {
    let mut plain = Vec::new();
    while !rest.is_empty() {
        let size = u32::from_le_bytes(rest[17..21].try_into().unwrap()) as usize;
        let length = u32::from_le_bytes(rest[21..25].try_into().unwrap()) as usize;
        let checksum = cityhash_rs::cityhash_102_128(&rest[16..16 + size]).rotate_right(64);
        assert_eq!(rest[..16], checksum.to_le_bytes());
        plain.extend(lz4_flex::block::decompress(&rest[25..16 + size], length).unwrap());
        rest = &rest[16 + size..];
    }
    plain
}

#[tokio::test]
async fn answers_are_compressed_when_asked() {
    let Some(victim) = Victim::new().await else { return };
    let sql = encoded("SELECT number FROM numbers(500000)");
    let plain = http(victim.url, &format!("{}&query={sql}", victim.path), "", b"").await;
    let blocks =
        http(victim.url, &format!("{}&query={sql}&compress=1", victim.path), "", b"").await;
    assert!(unblocked(&blocks.body) == plain.body);
    let path = format!("{}&query={sql}&enable_http_compression=1", victim.path);
    let framed = http(victim.url, &path, "Accept-Encoding: gzip, lz4\r\n", b"").await;
    assert_eq!(framed.header("content-encoding"), Some("lz4"));
    let mut decoded = Vec::new();
    let mut decoder = lz4_flex::frame::FrameDecoder::new(&framed.body[..]);
    std::io::Read::read_to_end(&mut decoder, &mut decoded).unwrap();
    assert!(decoded == plain.body && plain.complete && framed.complete && blocks.complete);
}

#[tokio::test]
async fn results_without_rows_begin_as_those_with_rows_do() {
    let Some(victim) = Victim::new().await else { return };
    let columns = "toLowCardinality('x') AS `a b`, [1]::Array(Nullable(UInt8)) AS c, now64(3) AS d, \
                   map('k', 1.5) AS e, {p:String} AS f";
    for format in ["RowBinaryWithNamesAndTypes", "RowBinaryWithNames", "TSVWithNamesAndTypes"] {
        let path = format!("{}&default_format={format}&param_p=%3B", victim.path);
        let ask = |condition: &str| format!("SELECT {columns} FROM victim WHERE {condition} -- ;");
        let some = http(victim.url, &path, "", ask("a = 7").as_bytes()).await;
        let none = http(victim.url, &path, "", ask("a = 8").as_bytes()).await;
        assert_eq!((some.status, none.status), (200, 200), "{}", none.text());
        assert!(!none.body.is_empty() && some.body.len() > none.body.len());
        assert!(some.body.starts_with(&none.body), "{format}: {:?}", none.text());
    }
}

#[tokio::test]
async fn answers_name_themselves() {
    let Some(victim) = Victim::new().await else { return };
    let path = format!("{}&query_id=my-query&default_format=JSONEachRow", victim.path);
    let reply = http(victim.url, &path, "", b"SELECT 1 AS one").await;
    assert_eq!(reply.text(), "{\"one\":1}\n");
    assert_eq!(reply.header("x-clickhouse-query-id"), Some("my-query"));
    assert_eq!(reply.header("x-clickhouse-format"), Some("JSONEachRow"));
    assert!(reply.header("content-type").unwrap().starts_with("application/x-ndjson"));
    let written = victim.insert("CSV", "", b"1\n2\n").await;
    assert!(written.header("x-clickhouse-summary").unwrap().contains("\"written_rows\":\"2\""));
}

#[tokio::test]
async fn methods_and_paths_mean_what_they_say() {
    let Some(victim) = Victim::new().await else { return };
    let get = |sql: &str| format!("{}&query={}", victim.path, encoded(sql));
    let read = send(victim.url, "GET", &get("SELECT count() FROM victim"), "", b"").await;
    assert_eq!(read.text(), "1\n");
    for sql in ["DROP TABLE victim", "INSERT INTO victim VALUES (1)"] {
        let reply = send(victim.url, "GET", &get(sql), "", b"").await;
        assert_eq!(reply.code(), Some(164), "{}", reply.text());
    }
    assert_eq!(send(victim.url, "GET", "/", "", b"").await.text(), "Ok.\n");
    assert_eq!(send(victim.url, "DELETE", &victim.path, "", b"").await.status, 405);
    assert_eq!(send(victim.url, "GET", "/dashboard", "", b"").await.status, 404);
    assert_eq!(victim.run("").await.code(), Some(62));
    victim.is_unharmed().await;
}
