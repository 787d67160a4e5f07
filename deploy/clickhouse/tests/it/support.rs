//! A database of its own for each test, servers in processes of their own, and plain HTTP.

use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use clickhouse::Client;
use lanecast_clickhouse::testing::{TestServer, shared_server};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// The server that all tests share.
pub(crate) async fn server() -> &'static TestServer {
    tokio::task::spawn_blocking(shared_server).await.unwrap()
}

/// A name that no other test uses.
pub(crate) fn fresh_name() -> String {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    format!("conformance_{}_{count}", std::process::id())
}

/// A client of the shared server, on a fresh database.
pub(crate) async fn fresh() -> Client {
    let name = fresh_name();
    let mut client = Client::default().with_url(&server().await.url);
    // For a server of the user's own, as `CLICKHOUSE_URL` names it.
    if let Ok(user) = std::env::var("CLICKHOUSE_USER") {
        client = client.with_user(user);
    }
    if let Ok(password) = std::env::var("CLICKHOUSE_PASSWORD") {
        client = client.with_password(password);
    }
    client.query(&format!("CREATE DATABASE {name}")).execute().await.unwrap();
    client.with_database(name)
}

/// The code of a server's exception.
pub(crate) fn code(error: &clickhouse::error::Error) -> Option<i32> {
    code_of(&error.to_string())
}

/// The code in an exception's text.
pub(crate) fn code_of(text: &str) -> Option<i32> {
    let digits = text.split("Code: ").nth(1)?;
    digits.split('.').next()?.parse().ok()
}

/// An answer, as it came.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    head: String,
    pub(crate) body: Vec<u8>,
    /// Whether the body ended as HTTP says it must.
    pub(crate) complete: bool,
}

impl Reply {
    pub(crate) fn header(&self, wanted: &str) -> Option<&str> {
        self.head.lines().find_map(|line| {
            let (name, value) = line.split_once(':')?;
            name.eq_ignore_ascii_case(wanted).then(|| value.trim())
        })
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub(crate) fn code(&self) -> Option<i32> {
        code_of(&self.text())
    }
}

/// One request on a connection of its own. `path` is sent as it is.
pub(crate) async fn http(url: &str, path: &str, head: &str, body: &[u8]) -> Reply {
    let length = format!("Content-Length: {}\r\n", body.len());
    send(url, "POST", path, &format!("{head}{length}"), body).await
}

/// Any method and any head.
pub(crate) async fn send(url: &str, method: &str, path: &str, head: &str, body: &[u8]) -> Reply {
    let host = url.trim_start_matches("http://").trim_end_matches('/');
    let (mut read, mut write) = TcpStream::connect(host).await.unwrap().into_split();
    let head =
        format!("{method} {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n{head}\r\n");
    let sending = async {
        // A server that refuses may close before all is sent: its answer counts.
        let _ = write.write_all(head.as_bytes()).await;
        let _ = write.write_all(body).await;
    };
    let mut raw = Vec::new();
    let receiving = read.read_to_end(&mut raw);
    let (_, received) = tokio::join!(sending, receiving);
    received.unwrap();
    parse(&raw)
}

fn parse(raw: &[u8]) -> Reply {
    let end = raw.windows(4).position(|w| w == b"\r\n\r\n").expect("an answer has a head");
    let head = String::from_utf8(raw[..end].to_vec()).unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    let mut reply = Reply { status, head, body: raw[end + 4..].to_vec(), complete: true };
    if reply.header("transfer-encoding") == Some("chunked") {
        (reply.body, reply.complete) = unchunk(&raw[end + 4..]);
    }
    reply
}

fn unchunk(mut rest: &[u8]) -> (Vec<u8>, bool) {
    let mut body = Vec::new();
    while let Some(line) = rest.windows(2).position(|w| w == b"\r\n") {
        let length = std::str::from_utf8(&rest[..line]).unwrap();
        let length = usize::from_str_radix(length, 16).unwrap();
        if length == 0 {
            return (body, true);
        }
        body.extend_from_slice(&rest[line + 2..line + 2 + length]);
        rest = &rest[line + 4 + length..];
    }
    (body, false)
}

/// For use in a URL.
pub(crate) fn encoded(text: &str) -> String {
    text.bytes().map(|b| format!("%{b:02X}")).collect()
}

/// A server in a process of its own. Killed when dropped.
pub(crate) struct Process {
    child: Child,
    /// Kept open: a process that cannot write its output fails.
    output: BufReader<ChildStdout>,
    pub(crate) url: String,
    /// What it said before it listened, or instead of it.
    pub(crate) said: String,
}

impl Process {
    /// `settings` are `name=value` pairs that `local::server_process` reads.
    pub(crate) fn start(data_dir: &Path, settings: &[(&str, &str)]) -> Process {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command
            .args(["--ignored", "--exact", "local::server_process", "--nocapture"])
            .env("LANECAST_TEST_DATA_DIR", data_dir)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null());
        for (name, value) in settings {
            command.env(format!("LANECAST_TEST_{name}"), value);
        }
        let mut child = command.spawn().unwrap();
        let mut said = String::new();
        let mut url = String::new();
        let mut output = BufReader::new(child.stdout.take().unwrap());
        for line in output.by_ref().lines() {
            let line = line.unwrap();
            if let Some((_, address)) = line.split_once("serving ") {
                address.clone_into(&mut url);
                break;
            }
            said.push_str(&line);
            said.push('\n');
        }
        Process { child, output, url, said }
    }

    /// Asks it to finish and waits until it has; true when it ended well.
    pub(crate) fn stop(&mut self) -> bool {
        self.ask_to_stop();
        std::io::copy(&mut self.output, &mut std::io::sink()).unwrap();
        self.child.wait().unwrap().success()
    }

    /// Asks it to finish.
    pub(crate) fn ask_to_stop(&mut self) {
        drop(self.child.stdin.take());
    }

    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
