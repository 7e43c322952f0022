//! Connections: how many there are at once, and how long one may take to say what it wants.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

/// Connections at once; further ones wait until one of them ends.
const MAX_CONNECTIONS: usize = 1_024;
/// How long the head of a request may take, the wait for the next one on a connection that is kept included.
pub(crate) const HEAD_WITHIN: Duration = Duration::from_secs(30);
/// How long nobody is let in when the system has no room for another connection.
const BREATH: Duration = Duration::from_millis(100);

/// Answers whoever comes until `ending`, then finishes what is being answered. A connection that has not sent the whole head of a request within
/// `head_within` is closed: otherwise a few that say nothing could keep everybody else out.
pub(crate) async fn answer(listener: TcpListener, router: Router, ending: CancellationToken, head_within: Duration) {
    let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let open = GracefulShutdown::new();
    let next = async || {
        // Never closed.
        let place = Arc::clone(&places).acquire_owned().await.ok();
        (place, listener.accept().await)
    };
    loop {
        let (place, accepted) = tokio::select! {
            next = next() => next,
            () = ending.cancelled() => break,
        };
        let stream = match accepted {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!(%error, "cannot take a connection");
                tokio::time::sleep(BREATH).await;
                continue;
            }
        };
        // An answer is sent at once, not held back until there is more of it.
        let _ = stream.set_nodelay(true);
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(head_within)
            .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router.clone()));
        let watched = open.watch(connection);
        tokio::spawn(async move {
            // A caller that hangs up is no news.
            let _ = watched.await;
            drop(place);
        });
    }
    open.shutdown().await;
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::routing::get;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpStream;

    #[tokio::test]
    async fn who_does_not_finish_a_head_is_hung_up_on_and_what_is_asked_is_answered_to_the_end() {
        let slow = async || {
            tokio::time::sleep(Duration::from_millis(300)).await;
            "done"
        };
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let ending = CancellationToken::new();
        let served =
            tokio::spawn(answer(listener, Router::new().route("/", get(slow)), ending.clone(), Duration::from_millis(200)));

        let mut silent = TcpStream::connect(address).await.unwrap();
        silent.write_all(b"GET / HTTP/1.1\r\nHost: ").await.unwrap();
        let mut said = Vec::new();
        let closed = tokio::time::timeout(Duration::from_secs(10), silent.read_to_end(&mut said)).await;
        closed.expect("the connection is closed").unwrap();
        assert!(said.is_empty(), "{}", String::from_utf8_lossy(&said));

        let mut asking = TcpStream::connect(address).await.unwrap();
        asking.write_all(b"GET / HTTP/1.1\r\nHost: here\r\n\r\n").await.unwrap();
        tokio::time::sleep(Duration::from_millis(50)).await;
        ending.cancel();
        asking.read_to_end(&mut said).await.unwrap();
        assert!(String::from_utf8_lossy(&said).ends_with("done"), "{}", String::from_utf8_lossy(&said));
        tokio::time::timeout(Duration::from_secs(10), served).await.expect("it ends").unwrap();
    }
}
