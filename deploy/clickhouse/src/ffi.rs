//! The C interface of libchdb, and the only unsafe code of this crate.
//!
//! The library is opened with `dlopen`, so no build needs it. A [`Library`] is opened once and stays
//! for the life of the process: its threads cannot be unloaded. A [`Connection`] runs one statement
//! at a time, which the borrow checker enforces here: a stream borrows its connection mutably.
//! Signatures are those of `programs/local/chdb.h` in chdb-core 26.7.

use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::path::{Path, PathBuf};
use std::ptr::NonNull;

use crate::exception::Exception;

/// What `chdb.h` declares as structs that only the library looks into.
type Opaque = c_void;
/// `chdb_connection`: a handle that `chdb_connect` returns a pointer to.
type RawConnection = *mut Opaque;

/// A query parameter: name (without `param_`) and its value as text.
pub(crate) type Param = (String, String);

const CHDB_SUCCESS: c_int = 0;

/// `chdb_query_analysis_v1`.
#[repr(C)]
struct RawAnalysis {
    struct_size: u32,
    statement_count: u32,
    flags: u32,
    query_class: u32,
}

type QueryFn = unsafe extern "C" fn(
    RawConnection,
    *const c_char,
    usize,
    *const c_char,
    usize,
    *const *const c_char,
    *const usize,
    *const *const c_char,
    *const usize,
    usize,
) -> *mut Opaque;

/// The functions in use, resolved when the library is loaded.
struct Symbols {
    version: unsafe extern "C" fn() -> *const c_char,
    set_signal_handlers: unsafe extern "C" fn(c_int),
    connect: unsafe extern "C" fn(c_int, *mut *mut c_char) -> *mut RawConnection,
    close: unsafe extern "C" fn(*mut RawConnection),
    query: QueryFn,
    stream_query: QueryFn,
    stream_fetch: unsafe extern "C" fn(RawConnection, *mut Opaque) -> *mut Opaque,
    stream_cancel: unsafe extern "C" fn(RawConnection, *mut Opaque),
    result_destroy: unsafe extern "C" fn(*mut Opaque),
    result_buffer: unsafe extern "C" fn(*mut Opaque) -> *const u8,
    result_length: unsafe extern "C" fn(*mut Opaque) -> usize,
    result_error: unsafe extern "C" fn(*mut Opaque) -> *const c_char,
    result_rows: unsafe extern "C" fn(*mut Opaque) -> u64,
    result_bytes: unsafe extern "C" fn(*mut Opaque) -> u64,
    result_storage_rows: unsafe extern "C" fn(*mut Opaque) -> u64,
    result_storage_bytes: unsafe extern "C" fn(*mut Opaque) -> u64,
    result_rows_written: unsafe extern "C" fn(*mut Opaque) -> u64,
    result_bytes_written: unsafe extern "C" fn(*mut Opaque) -> u64,
    insert: QueryFn,
    insert_append: unsafe extern "C" fn(*mut Opaque, *const c_void, usize) -> c_int,
    insert_done: unsafe extern "C" fn(*mut Opaque) -> *mut Opaque,
    insert_cancel: unsafe extern "C" fn(*mut Opaque),
    insert_error: unsafe extern "C" fn(*mut Opaque) -> *const c_char,
    insert_destroy: unsafe extern "C" fn(*mut Opaque),
    classify: unsafe extern "C" fn(
        RawConnection,
        *const c_char,
        usize,
        *const c_char,
        usize,
        *mut RawAnalysis,
    ) -> c_int,
}

/// Ends the process without running the destructors of libchdb's globals: they would race the
/// engine's threads, which only the end of the process stops, and crash it after its work was done.
/// Nothing is lost: acknowledged data is in the kernel's hands, and a server that is shut down has
/// closed the engine before.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
mod exit {
    use std::ffi::{c_int, c_void};
    use std::sync::atomic::{AtomicU64, Ordering};

    /// So often the handler is registered each time, then at each power of two.
    const EACH_TIME: u64 = 256;

    unsafe extern "C" {
        fn on_exit(handler: extern "C" fn(c_int, *mut c_void), argument: *mut c_void) -> c_int;
        fn _exit(status: c_int) -> !;
    }

    extern "C" fn end(status: c_int, _argument: *mut c_void) {
        // SAFETY: always sound; Rust has flushed its own output before the exit handlers run.
        unsafe { _exit(status) }
    }

    /// To be called after each use of the library. Handlers run last in, first out, and the library
    /// registers destructors whenever it first runs a piece of code: so this one is registered
    /// again, a bounded number of times, to stay in front of them.
    pub(super) fn leave_engine_alone() {
        static USES: AtomicU64 = AtomicU64::new(0);
        let uses = USES.fetch_add(1, Ordering::Relaxed) + 1;
        if uses > EACH_TIME && !uses.is_power_of_two() {
            return;
        }
        // SAFETY: the handler is a function of this program and takes no argument.
        let refused = unsafe { on_exit(end, std::ptr::null_mut()) };
        if refused != 0 {
            tracing::warn!("cannot register an exit handler: the process may end with a signal");
        }
    }
}

#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
mod exit {
    /// There is no `on_exit` here.
    pub(super) fn leave_engine_alone() {}
}

/// Why libchdb could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// `dlopen` refused the file.
    #[error("cannot load {path}: {reason}")]
    Open {
        /// The file.
        path: PathBuf,
        /// What the dynamic linker said.
        reason: String,
    },
    /// The file is a library without a function that this crate needs.
    #[error("{path} is not libchdb 26.7 or later: it has no function {symbol}")]
    Symbol {
        /// The file.
        path: PathBuf,
        /// The function that is missing.
        symbol: &'static str,
    },
}

/// libchdb, loaded.
pub(crate) struct Library {
    symbols: Symbols,
}

impl Library {
    /// Loads the library at `path` for the rest of the process's life.
    pub(crate) fn load(path: &Path) -> Result<&'static Library, LoadError> {
        // SAFETY: loading runs the initialisers of the file. The caller chose it: it is the file
        // whose checksum `install` verified, or one that the user named.
        let library = unsafe { libloading::Library::new(path) }.map_err(|error| {
            LoadError::Open { path: path.to_path_buf(), reason: error.to_string() }
        })?;
        // Leaked on purpose: the engine's threads outlive every handle, so it is never unloaded.
        let library: &'static libloading::Library = Box::leak(Box::new(library));

        macro_rules! symbol {
            ($name:literal) => {{
                // SAFETY: each name is looked up at the type that chdb.h 26.7 declares for it (the
                // field's type above), and the library stays loaded for ever.
                let found = unsafe { library.get(concat!($name, "\0").as_bytes()) };
                *found.map_err(|_| LoadError::Symbol { path: path.to_path_buf(), symbol: $name })?
            }};
        }
        let symbols = Symbols {
            version: symbol!("chdb_version"),
            set_signal_handlers: symbol!("chdb_set_signal_handlers_enabled"),
            connect: symbol!("chdb_connect"),
            close: symbol!("chdb_close_conn"),
            query: symbol!("chdb_query_with_params_n"),
            stream_query: symbol!("chdb_stream_query_with_params_n"),
            stream_fetch: symbol!("chdb_stream_fetch_result"),
            stream_cancel: symbol!("chdb_stream_cancel_query"),
            result_destroy: symbol!("chdb_destroy_query_result"),
            result_buffer: symbol!("chdb_result_buffer"),
            result_length: symbol!("chdb_result_length"),
            result_error: symbol!("chdb_result_error"),
            result_rows: symbol!("chdb_result_rows_read"),
            result_bytes: symbol!("chdb_result_bytes_read"),
            result_storage_rows: symbol!("chdb_result_storage_rows_read"),
            result_storage_bytes: symbol!("chdb_result_storage_bytes_read"),
            result_rows_written: symbol!("chdb_result_rows_written"),
            result_bytes_written: symbol!("chdb_result_bytes_written"),
            insert: symbol!("chdb_stream_insert_with_params_n"),
            insert_append: symbol!("chdb_stream_append"),
            insert_done: symbol!("chdb_stream_done"),
            insert_cancel: symbol!("chdb_stream_cancel_insert"),
            insert_error: symbol!("chdb_stream_insert_error"),
            insert_destroy: symbol!("chdb_destroy_insert_stream"),
            classify: symbol!("chdb_classify_query_n"),
        };
        // SAFETY: no argument but a flag; chdb.h asks for it before the first connection, and a
        // library that was just loaded has none. Signals belong to the program, not to the engine.
        unsafe { (symbols.set_signal_handlers)(0) };
        Ok(Box::leak(Box::new(Library { symbols })))
    }

    /// The version of the library, such as `26.7.0`.
    pub(crate) fn version(&self) -> String {
        // SAFETY: returns a static string with a terminating zero.
        let version = unsafe { CStr::from_ptr((self.symbols.version)()) };
        version.to_string_lossy().into_owned()
    }

    /// Opens a connection; `None` when the engine refuses (it says why on stderr only).
    pub(crate) fn connect(&'static self, arguments: &[CString]) -> Option<Connection> {
        let mut argv: Vec<*mut c_char> =
            arguments.iter().map(|argument| argument.as_ptr().cast_mut()).collect();
        let argc = c_int::try_from(argv.len()).ok()?;
        // SAFETY: argv holds argc pointers to strings with a terminating zero that outlive the call;
        // the library copies them and does not write through them.
        let raw = unsafe { (self.symbols.connect)(argc, argv.as_mut_ptr()) };
        NonNull::new(raw).map(|raw| Connection { library: self, raw })
    }
}

/// One connection: one statement at a time, on any one thread at a time.
pub(crate) struct Connection {
    library: &'static Library,
    raw: NonNull<RawConnection>,
}

// SAFETY: chdb.h asks that calls on one connection are serialised, not that they come from one
// thread. Every call takes `&mut self` or borrows the connection mutably, and the type is not Sync.
unsafe impl Send for Connection {}

impl Drop for Connection {
    fn drop(&mut self) {
        // SAFETY: `raw` came from chdb_connect and is closed once, here. Streams borrow the
        // connection, so none is left.
        unsafe { (self.library.symbols.close)(self.raw.as_ptr()) };
        exit::leave_engine_alone();
    }
}

/// Counters that the engine reports about a statement.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Progress {
    pub(crate) result_rows: u64,
    pub(crate) result_bytes: u64,
    pub(crate) read_rows: u64,
    pub(crate) read_bytes: u64,
    pub(crate) written_rows: u64,
    pub(crate) written_bytes: u64,
}

/// A whole result, or one chunk of a streamed one.
#[derive(Debug, Default)]
pub(crate) struct Output {
    pub(crate) data: Vec<u8>,
    pub(crate) progress: Progress,
}

/// What the engine's own parser says of a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Analysis {
    /// 0 when the text did not parse.
    pub(crate) statement_count: u32,
    /// Whether running it leaves a trace.
    pub(crate) read_only: bool,
}

/// Parameters as the four parallel arrays that the library takes. The pointers are into the
/// parameters and hold as long as these do.
struct RawParams {
    names: Vec<*const c_char>,
    name_lengths: Vec<usize>,
    values: Vec<*const c_char>,
    value_lengths: Vec<usize>,
}

impl RawParams {
    fn new(params: &[Param]) -> RawParams {
        RawParams {
            names: params.iter().map(|(name, _)| name.as_ptr().cast()).collect(),
            name_lengths: params.iter().map(|(name, _)| name.len()).collect(),
            values: params.iter().map(|(_, value)| value.as_ptr().cast()).collect(),
            value_lengths: params.iter().map(|(_, value)| value.len()).collect(),
        }
    }
}

impl Connection {
    fn handle(&self) -> RawConnection {
        // SAFETY: chdb_connect returned a pointer to a handle, valid until chdb_close_conn.
        unsafe { *self.raw.as_ptr() }
    }

    fn start(
        &mut self,
        function: QueryFn,
        sql: &str,
        format: &str,
        params: &[Param],
    ) -> *mut Opaque {
        let raw = RawParams::new(params);
        // SAFETY: the connection is open and, being borrowed mutably, idle. Every pointer comes with
        // its length and outlives the call; the library copies what it keeps.
        unsafe {
            function(
                self.handle(),
                sql.as_ptr().cast(),
                sql.len(),
                format.as_ptr().cast(),
                format.len(),
                raw.names.as_ptr(),
                raw.name_lengths.as_ptr(),
                raw.values.as_ptr(),
                raw.value_lengths.as_ptr(),
                params.len(),
            )
        }
    }

    /// Runs a statement and returns its whole result.
    pub(crate) fn query(
        &mut self,
        sql: &str,
        format: &str,
        params: &[Param],
    ) -> Result<Output, Exception> {
        let raw = self.start(self.library.symbols.query, sql, format, params);
        RawResult::new(self.library, raw)?.output()
    }

    /// Starts a statement whose result comes in chunks.
    pub(crate) fn stream(
        &mut self,
        sql: &str,
        format: &str,
        params: &[Param],
    ) -> Result<QueryStream<'_>, Exception> {
        let raw = self.start(self.library.symbols.stream_query, sql, format, params);
        let result = RawResult::new(self.library, raw)?;
        result.check()?;
        Ok(QueryStream { connection: self, result, finished: false })
    }

    /// Starts an INSERT without data; `sql` has no FORMAT clause.
    pub(crate) fn insert(
        &mut self,
        sql: &str,
        format: &str,
        params: &[Param],
    ) -> Result<InsertStream<'_>, Exception> {
        let raw = self.start(self.library.symbols.insert, sql, format, params);
        let raw = NonNull::new(raw).ok_or_else(Exception::no_result)?;
        let stream = InsertStream { connection: self, raw, finalized: false };
        match stream.error() {
            Some(exception) => Err(exception),
            None => Ok(stream),
        }
    }

    /// Asks the engine's parser about `sql` without running it.
    pub(crate) fn classify(&mut self, sql: &str) -> Option<Analysis> {
        const READ_ONLY: u32 = 0;
        let mut analysis = RawAnalysis {
            struct_size: size_of::<RawAnalysis>() as u32,
            statement_count: 0,
            flags: 0,
            query_class: u32::MAX,
        };
        // SAFETY: the connection is open and idle, the text comes with its length, a null database
        // is allowed, and the struct states its own size.
        let state = unsafe {
            (self.library.symbols.classify)(
                self.handle(),
                sql.as_ptr().cast(),
                sql.len(),
                std::ptr::null(),
                0,
                &raw mut analysis,
            )
        };
        (state == CHDB_SUCCESS).then_some(Analysis {
            statement_count: analysis.statement_count,
            read_only: analysis.query_class == READ_ONLY,
        })
    }
}

/// A `chdb_result`, destroyed with this value.
struct RawResult {
    library: &'static Library,
    raw: NonNull<Opaque>,
}

impl RawResult {
    fn new(library: &'static Library, raw: *mut Opaque) -> Result<RawResult, Exception> {
        let raw = NonNull::new(raw).ok_or_else(Exception::no_result)?;
        Ok(RawResult { library, raw })
    }

    fn check(&self) -> Result<(), Exception> {
        // SAFETY: the handle is live; the text is null or has a terminating zero and lives as long
        // as the handle.
        let error = unsafe { text((self.library.symbols.result_error)(self.raw.as_ptr())) };
        error.map_or(Ok(()), |message| Err(Exception::parse(&message)))
    }

    fn output(&self) -> Result<Output, Exception> {
        self.check()?;
        let symbols = &self.library.symbols;
        let raw = self.raw.as_ptr();
        // SAFETY: the handle is live. The buffer is null or has `length` bytes that live as long as
        // the handle; they are copied, so that nothing borrows from the engine.
        unsafe {
            let (buffer, length) = ((symbols.result_buffer)(raw), (symbols.result_length)(raw));
            let data = match buffer.is_null() || length == 0 {
                true => Vec::new(),
                false => std::slice::from_raw_parts(buffer, length).to_vec(),
            };
            let progress = Progress {
                result_rows: (symbols.result_rows)(raw),
                result_bytes: (symbols.result_bytes)(raw),
                read_rows: (symbols.result_storage_rows)(raw),
                read_bytes: (symbols.result_storage_bytes)(raw),
                written_rows: (symbols.result_rows_written)(raw),
                written_bytes: (symbols.result_bytes_written)(raw),
            };
            Ok(Output { data, progress })
        }
    }
}

impl Drop for RawResult {
    fn drop(&mut self) {
        // SAFETY: the handle came from the library and is destroyed once, here.
        unsafe { (self.library.symbols.result_destroy)(self.raw.as_ptr()) };
    }
}

/// A running query. Dropping it before its end cancels the query.
pub(crate) struct QueryStream<'c> {
    connection: &'c mut Connection,
    result: RawResult,
    finished: bool,
}

impl QueryStream<'_> {
    /// The next chunk, or `None` at the end.
    pub(crate) fn next(&mut self) -> Result<Option<Output>, Exception> {
        if self.finished {
            return Ok(None);
        }
        let library = self.connection.library;
        // SAFETY: connection and stream are live, and `&mut self` serialises the calls.
        let raw = unsafe {
            (library.symbols.stream_fetch)(self.connection.handle(), self.result.raw.as_ptr())
        };
        let output = RawResult::new(library, raw).and_then(|result| result.output());
        match output {
            Ok(output) if !output.data.is_empty() => Ok(Some(output)),
            Ok(_) => {
                self.finished = true;
                Ok(None)
            }
            Err(exception) => {
                self.finished = true;
                Err(exception)
            }
        }
    }
}

impl Drop for QueryStream<'_> {
    fn drop(&mut self) {
        if !self.finished {
            let cancel = self.connection.library.symbols.stream_cancel;
            // SAFETY: both handles are live; the result is destroyed after this, by its own drop.
            unsafe { cancel(self.connection.handle(), self.result.raw.as_ptr()) };
        }
    }
}

/// An INSERT that takes data. Dropping it without [`InsertStream::finish`] cancels the insert.
pub(crate) struct InsertStream<'c> {
    connection: &'c mut Connection,
    raw: NonNull<Opaque>,
    finalized: bool,
}

impl InsertStream<'_> {
    fn error(&self) -> Option<Exception> {
        // SAFETY: the stream is live; the text is null or has a terminating zero.
        let message =
            unsafe { text((self.connection.library.symbols.insert_error)(self.raw.as_ptr())) };
        message.map(|message| Exception::parse(&message))
    }

    /// Pushes data in the stream's format; waits while the engine is behind.
    pub(crate) fn append(&mut self, data: &[u8]) -> Result<(), Exception> {
        // SAFETY: the stream is live, and the library copies `length` bytes before it returns.
        let state = unsafe {
            (self.connection.library.symbols.insert_append)(
                self.raw.as_ptr(),
                data.as_ptr().cast(),
                data.len(),
            )
        };
        if state == CHDB_SUCCESS {
            return Ok(());
        }
        Err(self.error().unwrap_or_else(Exception::no_result))
    }

    /// Ends the data, commits, and says how much was written.
    pub(crate) fn finish(mut self) -> Result<Progress, Exception> {
        self.finalized = true;
        let library = self.connection.library;
        // SAFETY: the stream is live and finalised once, since `finish` takes it by value.
        let raw = unsafe { (library.symbols.insert_done)(self.raw.as_ptr()) };
        let output = RawResult::new(library, raw)?.output()?;
        Ok(output.progress)
    }
}

impl Drop for InsertStream<'_> {
    fn drop(&mut self) {
        let symbols = &self.connection.library.symbols;
        // SAFETY: the stream is live; cancelling one that is not finalised and then destroying it
        // once is the order that chdb.h asks for.
        unsafe {
            if !self.finalized {
                (symbols.insert_cancel)(self.raw.as_ptr());
            }
            (symbols.insert_destroy)(self.raw.as_ptr());
        }
    }
}

/// A C string as text, `None` when null.
///
/// # Safety
/// `pointer` is null or points to a string with a terminating zero.
unsafe fn text(pointer: *const c_char) -> Option<String> {
    if pointer.is_null() {
        return None;
    }
    // SAFETY: not null, and the caller vouches for the rest.
    Some(unsafe { CStr::from_ptr(pointer) }.to_string_lossy().into_owned())
}
