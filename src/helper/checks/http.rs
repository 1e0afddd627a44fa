//! `http`: a web server responds with the expected status and body.
//!
//! Every run opens a connection, as a new client would. Redirects are not followed. Of what a server
//! sends only so much is read as an answer needs, in bytes and in interim answers.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::{Context, Poll};
use std::time::{Duration, Instant, SystemTime};

use http_body_util::{BodyExt as _, Empty};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1;
use hyper::ext::on_informational;
use hyper::header::{ACCEPT, CONNECTION, HOST, USER_AGENT};
use hyper::{Request, Response, StatusCode, Uri};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::Mutex;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::client::Resumption;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName, pem::PemObject as _};
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

use super::tcp::{TcpTarget, describe};
use crate::config;

/// How much of the body is searched.
const SEARCHED: usize = 64 * 1024;
/// How much is read in one run: what is searched, with the head, certificates and framing.
const MAX_READ: usize = 4 * SEARCHED;
/// The head of an answer is no longer than this.
const MAX_HEAD: usize = SEARCHED;
/// Interim answers (status 100 to 199) before the answer. One or two are usual.
const MAX_INTERIM: u32 = 8;
/// How long the system's certificate authorities are cached.
const FRESH: Duration = Duration::from_secs(3600);

pub(super) struct HttpCheck {
    request: config::Http,
    /// An error of the URL.
    target: Result<HttpTarget, String>,
}

pub(crate) struct HttpTarget {
    uri: Uri,
    /// The `Host` header: with the port, unless it is the default.
    authority: String,
    peer: TcpTarget,
    /// For `https`: the name that the certificate must have.
    server: Option<ServerName<'static>>,
}

impl HttpCheck {
    pub(super) fn new(request: config::Http) -> Self {
        let target = HttpTarget::of(&request.url);
        HttpCheck { request, target }
    }

    pub(super) async fn run(
        &mut self,
        authorities: &Authorities,
        limit: Duration,
    ) -> Result<String, String> {
        let target = self.target.as_mut().map_err(|why| why.clone())?;
        let stream = target.peer.connect(limit).await?;
        let _ = stream.set_nodelay(true);
        let stream = Limited::new(stream);
        let request = target.request(&stream.interim)?;
        let Some(server) = target.server.clone() else {
            return exchange(stream, request, &self.request).await;
        };
        let tls = TlsConnector::from(authorities.trusted(self.request.ca_file.as_deref()).await?);
        let stream = tls.connect(server, stream).await.map_err(|error| format!("TLS: {error}"))?;
        exchange(stream, request, &self.request).await
    }
}

impl HttpTarget {
    pub(crate) fn of(url: &str) -> Result<Self, String> {
        let uri: Uri = url.parse().map_err(|error| format!("{url}: {error}"))?;
        let host = uri.host().ok_or_else(|| format!("{url} names no host"))?;
        let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        let tls = uri.scheme_str() == Some("https");
        let usual = if tls { 443 } else { 80 };
        let port = uri.port_u16().unwrap_or(usual);
        let shown = if host.contains(':') { format!("[{host}]") } else { host.clone() };
        let authority = if port == usual { shown } else { format!("{shown}:{port}") };
        let server = match tls {
            true => Some(
                ServerName::try_from(host.clone()).map_err(|error| format!("{host}: {error}"))?,
            ),
            false => None,
        };
        Ok(HttpTarget { peer: TcpTarget::new(host, port), uri, authority, server })
    }

    /// Interim answers to it are counted.
    pub(crate) fn request(
        &self,
        interim: &Arc<AtomicU32>,
    ) -> Result<Request<Empty<Bytes>>, String> {
        let mut request = Request::builder()
            .uri(self.uri.path_and_query().map_or("/", |path| path.as_str()))
            .header(HOST, &self.authority)
            .header(USER_AGENT, concat!("vipd/", env!("CARGO_PKG_VERSION")))
            .header(ACCEPT, "*/*")
            .header(CONNECTION, "close")
            .body(Empty::new())
            .map_err(|error| error.to_string())?;
        let interim = Arc::clone(interim);
        on_informational(&mut request, move |_| {
            interim.fetch_add(1, Ordering::Relaxed);
        });
        Ok(request)
    }
}

/// A connection from which only so much is read. Below TLS, so that what is decrypted is limited.
pub(crate) struct Limited<S> {
    stream: S,
    read: usize,
    /// Interim answers so far.
    pub(crate) interim: Arc<AtomicU32>,
}

impl<S> Limited<S> {
    pub(crate) fn new(stream: S) -> Self {
        Limited { stream, read: 0, interim: Arc::default() }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Limited<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.interim.load(Ordering::Relaxed) > MAX_INTERIM {
            let text = format!("more than {MAX_INTERIM} interim answers (status 100 to 199)");
            return Poll::Ready(Err(io::Error::other(text)));
        }
        if self.read >= MAX_READ {
            let text = format!("more than {} KiB, and the answer is not complete", MAX_READ >> 10);
            return Poll::Ready(Err(io::Error::other(text)));
        }
        let before = buffer.filled().len();
        let polled = Pin::new(&mut self.stream).poll_read(context, buffer);
        self.read += buffer.filled().len() - before;
        polled
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Limited<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

/// Sends the request, and judges the answer.
pub(crate) async fn exchange(
    stream: impl AsyncRead + AsyncWrite + Unpin,
    request: Request<Empty<Bytes>>,
    wanted: &config::Http,
) -> Result<String, String> {
    let (mut sender, connection) = http1::Builder::new()
        .max_buf_size(MAX_HEAD)
        .handshake(TokioIo::new(stream))
        .await
        .map_err(|error| explain(&error))?;
    let answer = async {
        let response = sender.send_request(request).await.map_err(|error| explain(&error))?;
        evaluate(response, wanted).await
    };
    let carried = async {
        // The request reports how the connection ends.
        let _ = connection.await;
        std::future::pending().await
    };
    tokio::select! {
        answer = answer => answer,
        never = carried => never,
    }
}

async fn evaluate(response: Response<Incoming>, wanted: &config::Http) -> Result<String, String> {
    let status = response.status();
    let passes = match wanted.status {
        Some(wanted) => status.as_u16() == wanted,
        None => status.is_success(),
    };
    if !passes {
        let wanted = wanted.status.map_or("200 to 299".to_owned(), |wanted| wanted.to_string());
        return Err(format!("status {}, wanted {wanted}", named(status)));
    }
    let Some(words) = &wanted.body else { return Ok(format!("status {}", named(status))) };
    let mut body = response.into_body();
    let mut searched = Vec::new();
    let mut begin = 0;
    while searched.len() < SEARCHED
        && let Some(frame) = body.frame().await
    {
        let frame = frame.map_err(|error| explain(&error))?;
        if let Some(data) = frame.data_ref() {
            let room = SEARCHED - searched.len();
            searched.extend_from_slice(data.get(..room).unwrap_or(data));
        }
        // Of what was searched before only the end: a server may send each byte by itself.
        let new = searched.get(begin..).unwrap_or_default();
        begin = searched.len().saturating_sub(words.len());
        if contains(new, words.as_bytes()) {
            return Ok(format!("status {}, the body has {words:?}", named(status)));
        }
    }
    Err(format!(
        "status {}, but the body does not have {words:?} in its first {} bytes",
        named(status),
        searched.len()
    ))
}

fn named(status: StatusCode) -> String {
    match status.canonical_reason() {
        Some(reason) => format!("{} {reason}", status.as_u16()),
        None => status.as_u16().to_string(),
    }
}

fn contains(text: &[u8], words: &[u8]) -> bool {
    words.is_empty() || text.windows(words.len()).any(|window| window == words)
}

/// The error with its source, which hyper does not print.
fn explain(error: &hyper::Error) -> String {
    match std::error::Error::source(error) {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    }
}

/// Certificate authorities, of the system or of a file: shared by all checks, and read again when
/// the file has changed.
#[derive(Default)]
pub(super) struct Authorities(Mutex<BTreeMap<Option<PathBuf>, Known>>);

struct Known {
    read_at: Instant,
    stamp: Option<(SystemTime, u64)>,
    config: Arc<ClientConfig>,
}

impl Authorities {
    async fn trusted(&self, file: Option<&Path>) -> Result<Arc<ClientConfig>, String> {
        let mut known = self.0.lock().await;
        let file = file.map(Path::to_owned);
        let before = known.get(&file).map(|known| (known.read_at, known.stamp));
        let path = file.clone();
        let read = tokio::task::spawn_blocking(move || read(path.as_deref(), before));
        if let Some(fresh) = read.await.map_err(|error| error.to_string())?? {
            known.insert(file.clone(), fresh);
        }
        known
            .get(&file)
            .map(|known| Arc::clone(&known.config))
            .ok_or_else(|| "no authorities".into())
    }
}

/// `None`: the cached authorities are current.
fn read(
    file: Option<&Path>,
    before: Option<(Instant, Option<(SystemTime, u64)>)>,
) -> Result<Option<Known>, String> {
    let mut roots = RootCertStore::empty();
    let mut stamp = None;
    match file {
        None => {
            if before.is_some_and(|(read_at, _)| read_at.elapsed() < FRESH) {
                return Ok(None);
            }
            let found = rustls_native_certs::load_native_certs();
            let (good, _) = roots.add_parsable_certificates(found.certs);
            if good == 0 {
                let why = found.errors.first().map_or(String::new(), |error| format!(": {error}"));
                return Err(format!(
                    "this system has no certificate authorities (package ca-certificates?){why}; set `ca_file`"
                ));
            }
        }
        Some(file) => {
            let shown = file.display();
            let complain = |error: &std::io::Error| format!("{shown}: {}", describe(error));
            let metadata = file.metadata().map_err(|error| complain(&error))?;
            let modified = metadata.modified().map_err(|error| complain(&error))?;
            stamp = Some((modified, metadata.len()));
            if before.is_some_and(|(_, before)| before == stamp) {
                return Ok(None);
            }
            for certificate in
                CertificateDer::pem_file_iter(file).map_err(|error| format!("{shown}: {error}"))?
            {
                let certificate = certificate.map_err(|error| format!("{shown}: {error}"))?;
                roots.add(certificate).map_err(|error| format!("{shown}: {error}"))?;
            }
            if roots.is_empty() {
                return Err(format!("{shown} holds no certificate"));
            }
        }
    }
    let mut config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .with_root_certificates(roots)
        .with_no_client_auth();
    // A resumed session would not verify the certificate again.
    config.resumption = Resumption::disabled();
    Ok(Some(Known { read_at: Instant::now(), stamp, config: Arc::new(config) }))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    #[test]
    fn words_are_found_wherever_the_body_is_cut() {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        for cut in 0..=5 {
            let (first, second) = "ready".split_at(cut);
            let chunk = |text: &str| format!("{:x}\r\n{text}\r\n", text.len());
            let head = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
            let (before, after) = (chunk(&format!("not {first}")), chunk(&format!("{second}.")));
            let answer = format!("{head}{before}{after}{}", chunk(""));
            let said = runtime.block_on(async {
                let (ours, mut theirs) = tokio::io::duplex(1024);
                let server = async {
                    assert!(theirs.read(&mut [0; 512]).await.unwrap() > 0);
                    theirs.write_all(answer.as_bytes()).await.unwrap();
                };
                let url = "http://192.0.2.1/".to_owned();
                let request = HttpTarget::of(&url).unwrap().request(&Arc::default()).unwrap();
                let body = Some("ready".to_owned());
                let wanted = config::Http { url, status: None, body, ca_file: None };
                tokio::join!(exchange(ours, request, &wanted), server).0
            });
            assert_eq!(said.unwrap(), "status 200 OK, the body has \"ready\"", "{answer}");
        }
    }

    #[test]
    fn the_host_is_named_as_a_browser_would() {
        let named = |url| HttpTarget::of(url).unwrap().authority;
        assert_eq!(named("http://web.example/healthz"), "web.example");
        assert_eq!(named("http://web.example:8080/"), "web.example:8080");
        assert_eq!(named("https://[2001:db8::1]:443/"), "[2001:db8::1]");
        assert_eq!(named("http://[::1]:8404/x?y"), "[::1]:8404");
        let target = HttpTarget::of("https://[2001:db8::1]/").unwrap();
        assert_eq!(target.server, Some(ServerName::try_from("2001:db8::1").unwrap()));
    }

    /// How many bytes of an endless answer are taken, and what the check says. `answer` is the
    /// beginning, `more` follows again and again.
    async fn taken(answer: &str, more: &str, body: Option<&str>) -> (usize, String) {
        let wanted = config::Http {
            url: "http://web.example/".into(),
            status: None,
            body: body.map(str::to_owned),
            ca_file: None,
        };
        // Holds little, so that what the server can send has been read.
        let (near, mut far) = tokio::io::duplex(64);
        let stream = Limited::new(near);
        let request = HttpTarget::of(&wanted.url).unwrap().request(&stream.interim).unwrap();
        let server = async {
            let mut sent = 0;
            let _ = far.read(&mut [0; 1024]).await;
            let pieces = std::iter::once(answer).chain(std::iter::repeat(more));
            for piece in pieces {
                if far.write_all(piece.as_bytes()).await.is_err() || sent > 100 * MAX_READ {
                    break;
                }
                sent += piece.len();
            }
            sent
        };
        let (sent, said) = tokio::join!(server, exchange(stream, request, &wanted));
        (sent, said.unwrap_err())
    }

    #[tokio::test]
    async fn of_an_endless_answer_a_limited_part_is_read() {
        let interim = "HTTP/1.1 103 Early Hints\r\n\r\n";
        let (sent, said) = taken("", interim, None).await;
        assert!(said.contains("more than 8 interim answers"), "{said}");
        assert!(sent <= MAX_HEAD, "{sent}");
        let head = "HTTP/1.1 200 OK\r\n";
        let (sent, said) = taken(head, "X-Header: and one more\r\n", None).await;
        assert!(sent <= 2 * MAX_HEAD, "{sent}: {said}");
        // Each byte of the body in a chunk of its own.
        let chunked = format!("{head}Transfer-Encoding: chunked\r\n\r\n");
        let chunk = "1\r\nx\r\n";
        let (sent, said) = taken(&chunked, chunk, Some("ready")).await;
        assert!(said.contains("more than 256 KiB"), "{said}");
        assert!(sent <= MAX_READ + 2 * MAX_HEAD, "{sent}");
        let (sent, said) = taken(&format!("{head}\r\n"), "not yet ", Some("ready")).await;
        assert!(said.contains("does not have \"ready\" in its first 65536 bytes"), "{said}");
        assert!(sent <= SEARCHED + 2 * MAX_HEAD, "{sent}");
    }

    #[tokio::test]
    async fn a_few_interim_answers_are_passed_over() {
        let interim = "HTTP/1.1 103 Early Hints\r\n\r\n".repeat(8);
        let (_, said) =
            taken(&interim, "HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n", None).await;
        assert_eq!(said, "status 503 Service Unavailable, wanted 200 to 299");
    }
}
