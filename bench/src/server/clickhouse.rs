//! The local ClickHouse with Lanecast's tables: a process of the program that runs the bench.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use lanecast_store::{Retention, Store, StoreConfig, StoreError};

use super::Child;
use super::lanecast::read_ready;
use crate::Error;
use crate::http::{Http, escaped};
use crate::limits::{INSERT_MAX, SERVER_START_MAX};

const NAME: &str = "clickhouse";

pub struct ClickHouse {
    child: Child,
    addr: SocketAddr,
}

impl ClickHouse {
    /// Starts `program clickhouse serve` with its data in `folder`, without tables.
    ///
    /// # Errors
    /// It does not start: mostly its library is not there yet (`lanecast clickhouse install`).
    pub fn start(program: &Path, folder: &Path) -> Result<Self, Error> {
        let ready_file = folder.join("clickhouse.ready");
        let mut command = Command::new(program);
        command.args(["clickhouse", "serve", "--port", "0", "--log-level", "warn"]);
        command.arg("--data-dir").arg(folder.join("clickhouse"));
        command.arg("--ready-file").arg(&ready_file);
        let mut child = Child::start(NAME, &mut command, &folder.join("clickhouse.log"))?;
        let ready = child.wait_until("ready", SERVER_START_MAX, || read_ready(&ready_file))?;
        let addr = ready.addr.ok_or_else(|| server("wrote no address"))?;
        Ok(Self { child, addr })
    }

    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    #[must_use]
    pub fn cpu(&self) -> Duration {
        self.child.cpu()
    }

    /// # Errors
    /// It does not end in time.
    pub fn stop(self) -> Result<(), Error> {
        self.child.stop()
    }

    /// The way in that the consumer takes.
    ///
    /// # Errors
    /// Never: the address is a good one.
    pub fn store(&self) -> Result<Store, Error> {
        let (url, user) = (format!("http://{}", self.addr), "default".to_owned());
        Store::connect(StoreConfig { url, user, ..StoreConfig::default() }).map_err(of_store)
    }

    /// Makes Lanecast's tables and views.
    ///
    /// # Errors
    /// What the server says.
    pub async fn make_tables(&self) -> Result<Store, Error> {
        let store = self.store()?;
        store.migrate(&Retention::FOREVER).await.map_err(of_store)?;
        Ok(store)
    }

    /// A connection for statements.
    ///
    /// # Errors
    /// It does not listen any more.
    pub fn connect(&self) -> Result<Http, Error> {
        let mut http = Http::connect(NAME, self.addr)?;
        http.wait_at_most(INSERT_MAX)?;
        Ok(http)
    }
}

/// The target of a statement, with settings.
#[must_use]
pub fn target(sql: &str, settings: &[(&str, &str)]) -> String {
    let mut target = format!("/?user=default&query={}", escaped(sql));
    for (name, value) in settings {
        target.push_str(&format!("&{name}={}", escaped(value)));
    }
    target
}

pub(crate) fn of_store(error: StoreError) -> Error {
    server(&error.to_string())
}

fn server(detail: &str) -> Error {
    Error::Server { system: NAME.to_owned(), detail: detail.to_owned() }
}
