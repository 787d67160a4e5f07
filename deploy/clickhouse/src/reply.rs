//! An answer on its way: made on the query's thread, sent by hyper.

use std::io::Write;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};
use hyper::header::{CONTENT_ENCODING, CONTENT_TYPE, HeaderName, HeaderValue, RETRY_AFTER};
use hyper::{Response, StatusCode};
use lz4_flex::frame::FrameEncoder;
use tokio::sync::{mpsc, oneshot};

use crate::compression;
use crate::exception::{Exception, code};
use crate::ffi::Progress;
use crate::limits::{ANSWER_CHUNKS_MAX, RETRY_AFTER_SECONDS};

/// What a body that broke off ends with: the peer sees a connection that closed too early.
#[derive(Debug, thiserror::Error)]
#[error("the query failed after its answer had begun")]
pub(crate) struct BrokenOff;

enum Chunk {
    Data(Bytes),
    BrokenOff,
}

/// Body of an answer: all at once, or chunks from the query's thread.
pub(crate) struct ReplyBody {
    whole: Bytes,
    chunks: Option<mpsc::Receiver<Chunk>>,
    /// Set after [`Chunk::BrokenOff`]: the next poll fails.
    broken: bool,
    /// Dropped when the answer is sent or its client is gone.
    pub(crate) hangup: Option<crate::hangup::Hangup>,
}

impl ReplyBody {
    pub(crate) fn whole(body: impl Into<Bytes>) -> ReplyBody {
        ReplyBody { whole: body.into(), chunks: None, broken: false, hangup: None }
    }
}

impl Body for ReplyBody {
    type Data = Bytes;
    type Error = BrokenOff;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BrokenOff>>> {
        if self.broken {
            return Poll::Ready(Some(Err(BrokenOff)));
        }
        if !self.whole.is_empty() {
            return Poll::Ready(Some(Ok(Frame::data(std::mem::take(&mut self.whole)))));
        }
        let Some(chunks) = &mut self.chunks else { return Poll::Ready(None) };
        match std::task::ready!(chunks.poll_recv(context)) {
            Some(Chunk::Data(data)) => Poll::Ready(Some(Ok(Frame::data(data)))),
            Some(Chunk::BrokenOff) => {
                // One round without data lets hyper flush the exception before the connection ends.
                self.broken = true;
                context.waker().wake_by_ref();
                Poll::Pending
            }
            None => Poll::Ready(None),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.whole.is_empty() && self.chunks.is_none() && !self.broken
    }

    fn size_hint(&self) -> SizeHint {
        match &self.chunks {
            None => SizeHint::with_exact(self.whole.len() as u64),
            Some(_) => SizeHint::default(),
        }
    }
}

/// How an answer's bytes are framed.
enum Framing {
    Plain,
    /// ClickHouse's blocks, for `compress=1`.
    Blocks,
    /// An LZ4 frame, for `Content-Encoding: lz4`.
    Lz4(Box<FrameEncoder<Vec<u8>>>),
}

/// What the answer's headers say.
#[derive(Debug, Clone)]
pub(crate) struct Naming {
    pub(crate) query_id: String,
    /// Marks an exception in mid-stream; random, so that data cannot imitate one.
    pub(crate) tag: String,
    pub(crate) version: String,
}

/// The query thread's end of an answer.
pub(crate) struct Answer {
    naming: Naming,
    head: Option<oneshot::Sender<Response<ReplyBody>>>,
    chunks: Option<mpsc::Sender<Chunk>>,
    framing: Framing,
    /// Set before the last of the answer is handed over: who sees its end knows that it is one.
    done: Arc<AtomicBool>,
}

/// The client is gone.
pub(crate) struct Gone;

impl Answer {
    pub(crate) fn new(
        naming: Naming,
        head: oneshot::Sender<Response<ReplyBody>>,
        done: Arc<AtomicBool>,
    ) -> Answer {
        Answer { naming, head: Some(head), chunks: None, framing: Framing::Plain, done }
    }

    fn set_done(&self) {
        self.done.store(true, Ordering::Release);
    }

    pub(crate) fn compress_blocks(&mut self) {
        self.framing = Framing::Blocks;
    }

    pub(crate) fn compress_frame(&mut self) {
        self.framing = Framing::Lz4(Box::new(FrameEncoder::new(Vec::new())));
    }

    /// Whether the status has been sent.
    pub(crate) fn begun(&self) -> bool {
        self.head.is_none()
    }

    fn frame(&mut self, data: Vec<u8>) -> Bytes {
        match &mut self.framing {
            Framing::Plain => data.into(),
            Framing::Blocks => compression::encode(&data),
            Framing::Lz4(encoder) => {
                encoder.write_all(&data).expect("a Vec takes every write");
                encoder.flush().expect("a Vec takes every write");
                std::mem::take(encoder.get_mut()).into()
            }
        }
    }

    fn end_frame(&mut self) -> Bytes {
        match std::mem::replace(&mut self.framing, Framing::Plain) {
            Framing::Plain | Framing::Blocks => Bytes::new(),
            Framing::Lz4(encoder) => encoder.finish().expect("a Vec takes every write").into(),
        }
    }

    fn response(&self, status: StatusCode, body: ReplyBody) -> Response<ReplyBody> {
        let mut response = Response::new(body);
        *response.status_mut() = status;
        let headers = response.headers_mut();
        let mut set = |name: &'static str, value: &str| {
            if let Ok(value) = HeaderValue::from_str(value) {
                headers.insert(HeaderName::from_static(name), value);
            }
        };
        set("x-clickhouse-server-display-name", "lanecast");
        set("x-clickhouse-query-id", &self.naming.query_id);
        set("x-clickhouse-timezone", "UTC");
        response
    }

    fn success(&self, body: ReplyBody, format: &str, progress: Progress) -> Response<ReplyBody> {
        let mut response = self.response(StatusCode::OK, body);
        let headers = response.headers_mut();
        let content_type = crate::format::content_type(format);
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
        if let Framing::Lz4(_) = self.framing {
            headers.insert(CONTENT_ENCODING, HeaderValue::from_static("lz4"));
        }
        let summary = summary(progress);
        let named = [
            ("x-clickhouse-format", format),
            ("x-clickhouse-exception-tag", &self.naming.tag),
            ("x-clickhouse-summary", &summary),
        ];
        for (name, value) in named {
            if let Ok(value) = HeaderValue::from_str(value) {
                headers.insert(HeaderName::from_static(name), value);
            }
        }
        response
    }

    /// Answers with the whole of `data`.
    pub(crate) fn finish(mut self, data: Vec<u8>, format: &str, progress: Progress) {
        self.set_done();
        let response_head = self.success(ReplyBody::whole(Bytes::new()), format, progress);
        let mut body = if data.is_empty() { Bytes::new() } else { self.frame(data) };
        let tail = self.end_frame();
        if !tail.is_empty() {
            body = [body, tail].concat().into();
        }
        self.send_head(response_head.map(|_| ReplyBody::whole(body)));
    }

    fn send_head(&mut self, response: Response<ReplyBody>) {
        if let Some(head) = self.head.take() {
            // The client may be gone: then nobody wants the answer.
            let _ = head.send(response);
        }
    }

    /// Sends one chunk, and before the first of them the head. Waits while the client is behind.
    pub(crate) fn chunk(
        &mut self,
        data: Vec<u8>,
        format: &str,
        progress: Progress,
    ) -> Result<(), Gone> {
        if self.chunks.is_none() {
            let (sender, receiver) = mpsc::channel(ANSWER_CHUNKS_MAX);
            let mut body = ReplyBody::whole(Bytes::new());
            body.chunks = Some(receiver);
            let response = self.success(body, format, progress);
            self.chunks = Some(sender);
            self.send_head(response);
        }
        let framed = self.frame(data);
        self.push(Chunk::Data(framed))
    }

    fn push(&mut self, chunk: Chunk) -> Result<(), Gone> {
        match &self.chunks {
            Some(chunks) => chunks.blocking_send(chunk).map_err(|_| Gone),
            None => Err(Gone),
        }
    }

    /// Ends a streamed answer.
    pub(crate) fn end(mut self) {
        self.set_done();
        let tail = self.end_frame();
        if !tail.is_empty() {
            // A client that left does not miss the end.
            let _ = self.push(Chunk::Data(tail));
        }
    }

    /// Tells of a failure: as an answer of its own, or within the one that has begun.
    pub(crate) fn fail(mut self, exception: &Exception) {
        self.set_done();
        let text = exception.text(&self.naming.version);
        if !self.begun() {
            let response = self.refusal(exception, &text);
            self.send_head(response);
            return;
        }
        let tag = &self.naming.tag;
        let length = text.len() + 1;
        let block =
            format!("\r\n__exception__\r\n{tag}\r\n{text}\n{length} {tag}\r\n__exception__\r\n");
        let framed = self.frame(block.into_bytes());
        // A client that left needs no explanation.
        let _ = self.push(Chunk::Data(framed));
        let _ = self.push(Chunk::BrokenOff);
    }

    fn refusal(&self, exception: &Exception, text: &str) -> Response<ReplyBody> {
        let status = exception.status();
        let mut response = self.response(status, ReplyBody::whole(format!("{text}\n")));
        let headers = response.headers_mut();
        headers.insert("x-clickhouse-exception-code", HeaderValue::from(exception.code));
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=UTF-8"));
        if exception.code == code::TOO_MANY_SIMULTANEOUS_QUERIES {
            headers.insert(RETRY_AFTER, HeaderValue::from(RETRY_AFTER_SECONDS));
        }
        response
    }
}

/// The answer to a request that reached no engine.
pub(crate) fn refuse(naming: Naming, exception: &Exception) -> Response<ReplyBody> {
    let (head, _) = oneshot::channel();
    let text = exception.text(&naming.version);
    Answer::new(naming, head, Arc::default()).refusal(exception, &text)
}

fn summary(progress: Progress) -> String {
    format!(
        "{{\"read_rows\":\"{}\",\"read_bytes\":\"{}\",\"written_rows\":\"{}\",\
         \"written_bytes\":\"{}\",\"total_rows_to_read\":\"0\",\"result_rows\":\"{}\",\
         \"result_bytes\":\"{}\"}}",
        progress.read_rows,
        progress.read_bytes,
        progress.written_rows,
        progress.written_bytes,
        progress.result_rows,
        progress.result_bytes,
    )
}
