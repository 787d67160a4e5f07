//! A small HTTP client for the pipeline's own admin ports.

use std::net::SocketAddr;
use std::time::Duration;

use http_body_util::{BodyExt, Empty, Limited};
use hyper::body::Bytes;
use hyper_util::rt::TokioIo;
use serde::de::DeserializeOwned;

/// Longest wait for an answer of an admin port.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);
/// Largest answer: statistics of the broker's maximum of topics.
const ANSWER_BYTES_MAX: usize = 64 * 1024 * 1024;

/// Asks once, on a connection of its own.
///
/// # Errors
/// No connection, no answer in time, or too large an answer; in words.
pub(crate) async fn get(addr: SocketAddr, path: &str) -> Result<(u16, Bytes), String> {
    tokio::time::timeout(ANSWER_TIMEOUT, get_unbounded(addr, path))
        .await
        .map_err(|_| format!("http://{addr}{path}: no answer in {ANSWER_TIMEOUT:?}"))?
        .map_err(|reason| format!("http://{addr}{path}: {reason}"))
}

/// Asks once and reads the answer as JSON.
///
/// # Errors
/// As [`get`], or the answer is not 200 or not that JSON.
pub(crate) async fn get_json<T: DeserializeOwned>(
    addr: SocketAddr,
    path: &str,
) -> Result<T, String> {
    let (status, body) = get(addr, path).await?;
    if status != 200 {
        return Err(format!("http://{addr}{path} answered {status}"));
    }
    serde_json::from_slice(&body).map_err(|error| format!("http://{addr}{path}: {error}"))
}

async fn get_unbounded(addr: SocketAddr, path: &str) -> Result<(u16, Bytes), String> {
    let stream = tokio::net::TcpStream::connect(addr).await.map_err(|error| error.to_string())?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .map_err(|error| error.to_string())?;
    // Ends with the sender; its error shows up in the request's result.
    tokio::spawn(connection);
    let request = hyper::Request::get(path)
        .header(hyper::header::HOST, addr.to_string())
        .body(Empty::<Bytes>::new())
        .map_err(|error| error.to_string())?;
    let response = sender.send_request(request).await.map_err(|error| error.to_string())?;
    let status = response.status().as_u16();
    let body = Limited::new(response.into_body(), ANSWER_BYTES_MAX)
        .collect()
        .await
        .map_err(|error| error.to_string())?;
    Ok((status, body.to_bytes()))
}
