//! Processes under test and the few words of HTTP that the tests speak.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// The program under test.
pub(crate) const LANECAST: &str = env!("CARGO_BIN_EXE_lanecast");

/// What lets several `lanecast up` run on one machine.
const FREE_PORTS: [&str; 10] = [
    "--query-port",
    "0",
    "--broker-port",
    "0",
    "--broker-admin-port",
    "0",
    "--consumer-admin-port",
    "0",
    "--clickhouse-port",
    "0",
];

/// The arguments of a `lanecast up` on free ports.
pub(crate) fn up<'a>(data_dir: &'a Path, arguments: &[&'a str]) -> Vec<&'a str> {
    let data_dir = data_dir.to_str().unwrap();
    [&["up", "--data-dir", data_dir], FREE_PORTS.as_slice(), arguments].concat()
}

/// A running `lanecast`, killed when dropped.
pub(crate) struct Process {
    pub(crate) child: Child,
    ready_file: PathBuf,
    log: PathBuf,
}

/// Where a process serves, from its ready file.
#[derive(Clone, Debug)]
pub(crate) struct Ready {
    pub(crate) addr: SocketAddr,
    pub(crate) admin_addr: Option<SocketAddr>,
}

impl Process {
    /// Starts `lanecast ARGUMENTS --ready-file …` with nothing but `environment` set, besides what
    /// finding the home and the cache needs.
    pub(crate) fn start(
        folder: &Path,
        name: &str,
        arguments: &[&str],
        environment: &[(String, String)],
    ) -> Self {
        Self::start_command(folder, name, clean_command(arguments), environment)
    }

    /// The same for a command that ends with `lanecast ARGUMENTS`, such as one that runs it under
    /// other circumstances.
    pub(crate) fn start_command(
        folder: &Path,
        name: &str,
        mut command: Command,
        environment: &[(String, String)],
    ) -> Self {
        let ready_file = folder.join(format!("{name}.ready.json"));
        let log = folder.join(format!("{name}.stderr"));
        let child = command
            .arg("--ready-file")
            .arg(&ready_file)
            .envs(environment.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(std::fs::File::create(&log).unwrap())
            .spawn()
            .unwrap();
        Self { child, ready_file, log }
    }

    /// Waits until it serves; fails with its log if it ends instead.
    pub(crate) fn ready(&mut self) -> Ready {
        loop {
            if let Ok(bytes) = std::fs::read(&self.ready_file) {
                let json: serde_json::Value = serde_json::from_slice(&bytes).unwrap();
                let addr = |key: &str| json[key].as_str().map(|text| text.parse().unwrap());
                let admin_addr = addr("admin_addr");
                return Ready { addr: addr("addr").or(admin_addr).unwrap(), admin_addr };
            }
            if let Some(status) = self.child.try_wait().unwrap() {
                panic!("it ended ({status}) before it served:\n{}", self.log());
            }
            pause();
        }
    }

    /// Reads its standard output up to the first line's end.
    pub(crate) fn first_line(&mut self) -> String {
        let mut line = Vec::new();
        let mut byte = [0_u8; 1];
        let output = self.child.stdout.as_mut().unwrap();
        while output.read_exact(&mut byte).is_ok() && byte[0] != b'\n' {
            line.push(byte[0]);
        }
        assert!(!line.is_empty(), "no output; its log:\n{}", self.log());
        String::from_utf8(line).unwrap()
    }

    pub(crate) fn signal(&self, signal: rustix::process::Signal) {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, signal).unwrap();
    }

    /// Waits for its end; fails with its log unless that is exit code 0.
    pub(crate) fn succeeds(mut self) -> String {
        let status = self.child.wait().unwrap();
        let log = self.log();
        assert!(status.success(), "{status}:\n{log}");
        log
    }

    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            // `up` takes its children down on SIGTERM; a second signal does not wait for it.
            self.signal(rustix::process::Signal::TERM);
            for _ in 0..200 {
                if !matches!(self.child.try_wait(), Ok(None)) {
                    return;
                }
                pause();
            }
            self.child.kill().unwrap();
        }
        self.child.wait().unwrap();
    }
}

/// `lanecast` without the settings of whoever runs the tests.
pub(crate) fn clean_command(arguments: &[&str]) -> Command {
    clean_command_of(Path::new(LANECAST), arguments)
}

/// As [`clean_command`], of some build of the program.
pub(crate) fn clean_command_of(program: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(program);
    command.args(arguments).env_clear();
    for kept in ["HOME", "PATH", "XDG_CACHE_HOME", "LANECAST_CACHE_DIR", "LANECAST_CHDB_LIB"] {
        if let Some(value) = std::env::var_os(kept) {
            command.env(kept, value);
        }
    }
    // Whatever an installation behind a proxy or with own certificates needs to download.
    for (name, value) in std::env::vars_os() {
        let text = name.to_string_lossy().to_lowercase();
        if ["npm_config", "proxy", "ssl_cert", "ca_bundle", "extra_ca"]
            .iter()
            .any(|part| text.contains(part))
        {
            command.env(name, value);
        }
    }
    command
}

/// A short wait inside a loop that looks for something; never a substitute for looking.
pub(crate) fn pause() {
    std::thread::sleep(Duration::from_millis(20));
}

/// Repeats `look` until it finds something.
pub(crate) fn eventually<T>(mut look: impl FnMut() -> Option<T>) -> T {
    loop {
        if let Some(found) = look() {
            return found;
        }
        pause();
    }
}

/// One GET; status and body.
pub(crate) fn get(addr: SocketAddr, path: &str) -> (u16, String) {
    request(addr, "GET", path, "").unwrap()
}

/// One GET that must answer 200 with JSON.
pub(crate) fn get_json(addr: SocketAddr, path: &str) -> serde_json::Value {
    let (status, body) = get(addr, path);
    assert_eq!(status, 200, "{path}: {body}");
    serde_json::from_str(&body).unwrap_or_else(|error| panic!("{path}: {error}: {body}"))
}

/// One GET, if it answers 200 with JSON.
pub(crate) fn try_get_json(addr: SocketAddr, path: &str) -> Option<serde_json::Value> {
    match request(addr, "GET", path, "") {
        Ok((200, body)) => serde_json::from_str(&body).ok(),
        Ok(_) | Err(_) => None,
    }
}

/// Rows of the raw table of a local ClickHouse that nobody else serves; fails if one is there twice.
pub(crate) fn stored_rows(folder: &Path, data_dir: &Path) -> u64 {
    let arguments =
        ["clickhouse", "serve", "--port", "0", "--data-dir", data_dir.to_str().unwrap()];
    let mut server = Process::start(folder, "clickhouse", &arguments, &[]);
    let addr = server.ready().addr;
    let count = |sql: &str| -> u64 { clickhouse(addr, sql).unwrap().parse().unwrap() };
    let rows = count("SELECT count() FROM lanecast.telemetry");
    let distinct = count("SELECT uniqExact(topic_partition, topic_offset) FROM lanecast.telemetry");
    assert_eq!(distinct, rows, "rows are stored twice");
    rows
}

/// One statement on a ClickHouse HTTP port; the answer in words if it fails.
pub(crate) fn clickhouse(addr: SocketAddr, sql: &str) -> Result<String, String> {
    match request(addr, "POST", "/", sql) {
        Ok((200, body)) => Ok(body.trim().to_owned()),
        Ok((status, body)) => Err(format!("{status}: {body}")),
        Err(error) => Err(error.to_string()),
    }
}

/// HTTP/1.0: the answer ends with the connection, and is never chunked.
fn request(
    addr: SocketAddr,
    method: &str,
    path: &str,
    body: &str,
) -> std::io::Result<(u16, String)> {
    let mut stream = TcpStream::connect(addr)?;
    let length = body.len();
    write!(
        stream,
        "{method} {path} HTTP/1.0\r\nHost: {addr}\r\nContent-Length: {length}\r\n\r\n{body}"
    )?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    let answer = String::from_utf8_lossy(&answer).into_owned();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    let status = head.split(' ').nth(1).and_then(|text| text.parse().ok());
    let status = status.ok_or_else(|| std::io::Error::other(format!("no status: {head}")))?;
    Ok((status, body.to_owned()))
}
