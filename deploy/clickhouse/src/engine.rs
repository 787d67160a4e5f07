//! The engine: libchdb opened on one data directory, with its memory capped.
//!
//! The library has one data path per process, so there is one engine per process at a time. It lives
//! as long as its root connection, which sets the caps and then stays idle; every request opens a
//! connection of its own, since a shared one would serialise requests and mix up their parameters.

use std::ffi::CString;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::ServeError;
use crate::exception::Exception;
use crate::ffi::{Connection, Library};
use crate::limits::MARK_CACHE_DIVISOR;
use crate::token_log;

/// Name of the file that is locked while an engine uses a directory.
const LOCK_FILE: &str = "lanecast.lock";
/// Under the data directory: what belongs to the engine.
const ENGINE_FOLDER: &str = "clickhouse";
/// The first arguments, which every connection needs: a program's name and the path.
const PATH_ARGUMENTS: usize = 2;
/// What the engine's user may do.
const USERS: &str = include_str!("users.xml");

/// The library of this process, once loaded, and whether an engine is open.
struct Process {
    library: Option<&'static Library>,
    open: bool,
}

static PROCESS: Mutex<Process> = Mutex::new(Process { library: None, open: false });

fn process() -> MutexGuard<'static, Process> {
    PROCESS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// An open engine.
pub(crate) struct Engine {
    library: &'static Library,
    arguments: Vec<CString>,
    /// Keeps the engine running; otherwise idle.
    root: Mutex<Option<Connection>>,
    /// Locked for as long as this is open.
    lock: File,
    version: String,
}

impl Engine {
    /// Opens `data_dir`, which must not be in use, with at most `memory_bytes_max` of memory.
    pub(crate) fn open(
        library: &Path,
        data_dir: &Path,
        memory_bytes_max: u64,
    ) -> Result<Engine, ServeError> {
        let folder = |source| ServeError::DataDir { path: data_dir.to_path_buf(), source };
        std::fs::create_dir_all(data_dir).map_err(folder)?;
        let data_dir = &data_dir.canonicalize().map_err(folder)?;
        let lock = lock(data_dir)?;
        let mut process = process();
        if process.open {
            return Err(ServeError::EngineOpen);
        }
        let library = match process.library {
            Some(library) => library,
            None => Library::load(library)?,
        };
        process.library = Some(library);
        token_log::repair(&data_dir.join(ENGINE_FOLDER)).map_err(folder)?;
        let settings = write_settings(data_dir)?;
        let arguments = [
            "clickhouse".to_owned(),
            format!("--path={}", data_dir.join(ENGINE_FOLDER).display()),
            format!("--config-file={}", settings.display()),
            format!("--max_server_memory_usage={memory_bytes_max}"),
            format!("--mark_cache_size={}", memory_bytes_max / MARK_CACHE_DIVISOR),
        ];
        let arguments: Vec<CString> = arguments
            .into_iter()
            .map(|argument| CString::new(argument).map_err(|_| ServeError::DataDirName))
            .collect::<Result<_, _>>()?;
        let refused = || ServeError::EngineRefused { path: data_dir.clone() };
        let root = library.connect(&arguments).ok_or_else(refused)?;
        let mut first = library.connect(&arguments[..PATH_ARGUMENTS]).ok_or_else(refused)?;
        let version = first.query("SELECT version()", "TSVRaw", &[]).map_err(ServeError::engine)?;
        let version = String::from_utf8_lossy(&version.data).trim().to_owned();
        process.open = true;
        tracing::info!(library = library.version(), version, path = %data_dir.display(), "engine open");
        Ok(Engine { library, arguments, root: Mutex::new(Some(root)), lock, version })
    }

    /// A connection for one request. Blocks for some tenths of a millisecond.
    pub(crate) fn connect(&self) -> Result<Connection, Exception> {
        // The caps belong to the root connection: later ones name the path only.
        let connect = || self.library.connect(&self.arguments[..PATH_ARGUMENTS]);
        connect()
            .or_else(|| {
                // No connection opens without a database `default`, which a client may have dropped.
                let mut root = self.root.lock().unwrap_or_else(PoisonError::into_inner);
                let root = root.as_mut()?;
                root.query("CREATE DATABASE IF NOT EXISTS default", "Null", &[]).ok()?;
                connect()
            })
            .ok_or_else(Exception::no_result)
    }

    /// ClickHouse's version, such as `26.7.2.1`.
    pub(crate) fn version(&self) -> &str {
        &self.version
    }

    /// Kills the running statement that was tagged with `tag`, on a connection of its own.
    pub(crate) fn kill(&self, tag: &str) {
        let sql = "KILL QUERY WHERE Settings['log_comment'] = {tag:String} ASYNC FORMAT Null";
        let params = [("tag".to_owned(), tag.to_owned())];
        let killed =
            self.connect().and_then(|mut connection| connection.query(sql, "Null", &params));
        if let Err(exception) = killed {
            tracing::warn!(%exception, tag, "could not kill the query of a client that left");
        }
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        let root = self.root.get_mut().unwrap_or_else(PoisonError::into_inner);
        // Closing the last connection flushes and stops the engine, before the lock goes.
        drop(root.take());
        process().open = false;
        // The lock also goes when the file closes: an error here changes nothing.
        let _ = self.lock.unlock();
    }
}

/// Writes the engine's configuration, which also keeps it from taking one of the user's. Returns
/// its path.
fn write_settings(data_dir: &Path) -> Result<PathBuf, ServeError> {
    let (users, settings) = (data_dir.join("users.xml"), data_dir.join("engine.xml"));
    let escaped = users.display().to_string().replace('&', "&amp;").replace('<', "&lt;");
    let text = format!(
        "<clickhouse>\n  <users_config>{escaped}</users_config>\n  <access_control_improvements>\
         <table_engines_require_grant>true</table_engines_require_grant>\
         </access_control_improvements>\n</clickhouse>\n"
    );
    for (path, text) in [(&users, USERS), (&settings, &text)] {
        std::fs::write(path, text)
            .map_err(|source| ServeError::DataDir { path: path.clone(), source })?;
    }
    Ok(settings)
}

fn lock(data_dir: &Path) -> Result<File, ServeError> {
    let path = data_dir.join(LOCK_FILE);
    let failed = |source| ServeError::DataDir { path: path.clone(), source };
    let file =
        File::options().create(true).write(true).truncate(false).open(&path).map_err(failed)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(std::fs::TryLockError::WouldBlock) => {
            Err(ServeError::DataDirInUse { path: data_dir.to_path_buf() })
        }
        Err(std::fs::TryLockError::Error(source)) => Err(failed(source)),
    }
}
