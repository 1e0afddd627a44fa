//! `vipd exporter`: metrics for Prometheus and a page for people, by HTTP.
//!
//! An unprivileged process beside the daemon and a client of its control socket: nothing from the
//! network reaches the process that holds the addresses. It only reads. The number of clients, their
//! time and the size of a request are bounded, and the daemon is asked at most four times a second.

pub(crate) mod metrics;

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{self, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use serde::Serialize;
use sha2::{Digest as _, Sha256};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{Mutex, Semaphore};
use tokio::time::{sleep, timeout};

use crate::api::events::Event;
use crate::api::protocol::VERSION;
use crate::api::status::{Router, Status};
use crate::api::{Client, ClientError};
use crate::host::systemd::Systemd;
use crate::vrrp::Role;
use metrics::Format;

/// The whole page, with its style and script.
const PAGE: &str = include_str!("page.html");
/// Clients served at the same time; more wait.
const MAX_CLIENTS: usize = 64;
/// How long a client may take to send its request.
const HEADER_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a request may take in all, with the daemon's answer and the client's reading.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(20);
/// Maximum size of a request's head, in bytes; bodies are not read.
const MAX_HEAD: usize = 16 << 10;
/// How long an answer of the daemon is reused.
const MAX_AGE: Duration = Duration::from_millis(250);

/// Serves for ever.
///
/// # Errors
/// The address cannot be listened on.
pub fn run(listen: SocketAddr, runtime_dir: &Path) -> io::Result<()> {
    let executor = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(2)
        .build()?;
    executor.block_on(async {
        let listener = TcpListener::bind(listen)?;
        listener.set_nonblocking(true)?;
        let listener = tokio::net::TcpListener::from_std(listener)?;
        let server = Arc::new(HttpServer::new(runtime_dir)?);
        Systemd::from_env().ready(&format!("serving on http://{listen}/"));
        serve(listener, server).await
    })
}

async fn serve(listener: tokio::net::TcpListener, server: Arc<HttpServer>) -> io::Result<()> {
    let slots = Arc::new(Semaphore::new(MAX_CLIENTS));
    loop {
        let slot = Arc::clone(&slots).acquire_owned().await.map_err(io::Error::other)?;
        let Ok((stream, _)) = listener.accept().await else {
            // Perhaps out of descriptors: wait until a client is done.
            sleep(Duration::from_millis(100)).await;
            continue;
        };
        let server = Arc::clone(&server);
        tokio::spawn(async move {
            serve_client(stream, &server).await;
            drop(slot);
        });
    }
}

pub(crate) async fn serve_client(
    stream: impl AsyncRead + AsyncWrite + Unpin,
    server: &Arc<HttpServer>,
) {
    let service = service_fn(|request| {
        let server = Arc::clone(server);
        async move { Ok::<_, std::convert::Infallible>(server.answer(&request).await) }
    });
    // One request for each connection: idle clients hold no slot.
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .keep_alive(false)
        .max_buf_size(MAX_HEAD)
        .serve_connection(TokioIo::new(stream), service);
    // A client may break off; that is no error of ours.
    let _ = timeout(REQUEST_TIMEOUT, pin!(connection)).await;
}

/// Why the daemon did not answer, for people and, as a code, for programs.
#[derive(Clone, Debug, Serialize)]
struct NoAnswer {
    code: &'static str,
    text: String,
}

type Fetched<T> = Result<Arc<T>, NoAnswer>;

/// The last answer of the daemon, and when it arrived.
type Cached<T> = Mutex<Option<(Instant, Fetched<T>)>>;

/// Shared by all connections.
pub(crate) struct HttpServer {
    client: Client,
    policy: HeaderValue,
    status: Cached<Status>,
    events: Cached<Vec<Event>>,
}

#[derive(Serialize)]
struct Document<'a, T> {
    version: u32,
    /// The time of this answer, by the same clock as all other times in it.
    at: String,
    #[serde(flatten)]
    body: &'a T,
}

#[derive(Serialize)]
struct EventsBody<'a> {
    events: &'a [Event],
}

#[derive(Serialize)]
struct ErrorBody<'a> {
    error: &'a NoAnswer,
}

impl HttpServer {
    pub(crate) fn new(runtime_dir: &Path) -> io::Result<Self> {
        Ok(HttpServer {
            client: Client::new(runtime_dir),
            policy: HeaderValue::from_str(&policy(PAGE)).map_err(io::Error::other)?,
            status: Mutex::new(None),
            events: Mutex::new(None),
        })
    }

    async fn answer(&self, request: &Request<Incoming>) -> Response<Full<Bytes>> {
        let mut response = match (request.method(), request.uri().path()) {
            (&Method::GET | &Method::HEAD, path) => self.get(path, request).await,
            _ => {
                let text = "nothing can be changed here: only GET and HEAD\n";
                let mut refused = plain(StatusCode::METHOD_NOT_ALLOWED, text);
                let allowed = HeaderValue::from_static("GET, HEAD");
                refused.headers_mut().insert(header::ALLOW, allowed);
                refused
            }
        };
        let headers = response.headers_mut();
        for (name, value) in [
            (header::CACHE_CONTROL, "no-store"),
            (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
            (header::X_FRAME_OPTIONS, "DENY"),
            (header::REFERRER_POLICY, "no-referrer"),
        ] {
            headers.insert(name, HeaderValue::from_static(value));
        }
        headers.insert("cross-origin-resource-policy", HeaderValue::from_static("same-origin"));
        headers.insert(header::CONTENT_SECURITY_POLICY, self.policy.clone());
        response
    }

    async fn get(&self, path: &str, request: &Request<Incoming>) -> Response<Full<Bytes>> {
        match path {
            "/" => respond(StatusCode::OK, "text/html; charset=utf-8", PAGE),
            "/metrics" => {
                let accept = request.headers().get(header::ACCEPT);
                let accept = accept.and_then(|accept| accept.to_str().ok()).unwrap_or_default();
                let format = Format::wanted(accept);
                let status = self.status().await;
                let text = metrics::metrics(status.as_deref().ok(), SystemTime::now(), format);
                respond(StatusCode::OK, format.content_type(), text)
            }
            "/healthz" => {
                match self.status().await.map_or_else(|why| Err(why.text), |s| health(&s)) {
                    Ok(text) => plain(StatusCode::OK, format!("ok: {text}\n")),
                    Err(why) => plain(StatusCode::SERVICE_UNAVAILABLE, format!("{why}\n")),
                }
            }
            "/status.json" => match self.status().await {
                Ok(status) => json(StatusCode::OK, &*status),
                Err(error) => json(StatusCode::SERVICE_UNAVAILABLE, &ErrorBody { error: &error }),
            },
            "/events.json" => match self.events().await {
                Ok(events) => json(StatusCode::OK, &EventsBody { events: &events }),
                Err(error) => json(StatusCode::SERVICE_UNAVAILABLE, &ErrorBody { error: &error }),
            },
            _ => plain(
                StatusCode::NOT_FOUND,
                "there is: / /metrics /healthz /status.json /events.json\n",
            ),
        }
    }

    async fn status(&self) -> Fetched<Status> {
        self.ask(&self.status, Client::status).await
    }

    async fn events(&self) -> Fetched<Vec<Event>> {
        self.ask(&self.events, Client::events).await
    }

    /// Asks the daemon, or returns its answer of less than [`MAX_AGE`] ago. Clients that ask
    /// meanwhile wait for the same answer.
    async fn ask<T: Send + 'static>(
        &self,
        cached: &Cached<T>,
        request: fn(&Client) -> Result<T, ClientError>,
    ) -> Fetched<T> {
        let mut cached = cached.lock().await;
        if let Some((told_at, answer)) = &*cached
            && told_at.elapsed() < MAX_AGE
        {
            return answer.clone();
        }
        let client = self.client.clone();
        let answer = match tokio::task::spawn_blocking(move || request(&client)).await {
            Ok(Ok(answer)) => Ok(Arc::new(answer)),
            Ok(Err(error)) => Err(NoAnswer { code: error.code(), text: error.to_string() }),
            Err(error) => Err(NoAnswer { code: "failed", text: error.to_string() }),
        };
        *cached = Some((Instant::now(), answer.clone()));
        answer
    }
}

/// Whether all virtual routers of this host can take part, as a sentence; a drained host can.
pub(crate) fn health(status: &Status) -> Result<String, String> {
    if status.stopping {
        return Err("vipd is about to end".to_owned());
    }
    let faulty: Vec<String> = status
        .routers
        .iter()
        .filter(|router| !router.fault_reasons.is_empty())
        .map(|router| {
            let reasons: Vec<&str> =
                router.fault_reasons.iter().map(|reason| reason.text.as_str()).collect();
            format!("{} is {}: {}", router.name, router.role, reasons.join("; "))
        })
        .collect();
    if !faulty.is_empty() {
        return Err(faulty.join("\n"));
    }
    let mut roles: Vec<String> =
        status.routers.iter().map(|router| format!("{} is {}", router.name, router.role)).collect();
    let masters = status.routers.iter().filter(|router| router.role == Role::Master.name());
    roles.extend(masters.flat_map(Router::missing));
    let contenders = status.routers.iter().flat_map(|router| &router.contenders);
    roles.extend(contenders.map(ToString::to_string));
    if status.drained {
        roles.push("this host is drained".to_owned());
    }
    Ok(roles.join(", "))
}

/// The Content-Security-Policy of the page: its own script and style, by their hashes, and requests to
/// the server that it came from; nothing else.
fn policy(page: &str) -> String {
    let hash = |from: &str, to: &str| {
        let inside = page.split_once(from).and_then(|(_, rest)| rest.split_once(to));
        let hash = Sha256::digest(inside.map_or("", |(inside, _)| inside));
        format!("'sha256-{}'", BASE64.encode(hash))
    };
    format!(
        "default-src 'none'; script-src {}; style-src {}; connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
        hash("<script>", "</script>"),
        hash("<style>", "</style>")
    )
}

fn json(status: StatusCode, body: &impl Serialize) -> Response<Full<Bytes>> {
    let at = humantime::format_rfc3339_millis(SystemTime::now()).to_string();
    let document = Document { version: VERSION, at, body };
    // Cannot fail: strings, numbers and lists of them.
    let bytes = serde_json::to_vec(&document).unwrap_or_default();
    respond(status, "application/json", bytes)
}

fn plain(status: StatusCode, text: impl Into<Bytes>) -> Response<Full<Bytes>> {
    respond(status, "text/plain; charset=utf-8", text)
}

fn respond(
    status: StatusCode,
    content_type: &'static str,
    body: impl Into<Bytes>,
) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = status;
    let content_type = HeaderValue::from_static(content_type);
    response.headers_mut().insert(header::CONTENT_TYPE, content_type);
    response
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::status::NextStep;
    use crate::vrrp::Role;

    #[test]
    fn the_page_sends_requests_to_its_own_server_only() {
        for outside in ["http://", "https://", "//cdn", "@import", "url(", "src="] {
            assert!(!PAGE.contains(outside), "the page contains {outside}");
        }
        for dangerous in ["innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval("]
        {
            assert!(!PAGE.contains(dangerous), "the page contains {dangerous}");
        }
        for inline in [" style=\"", " onclick=", " onload=", "javascript:"] {
            assert!(!PAGE.contains(inline), "the policy forbids {inline}");
        }
        let links = PAGE.split("href=\"").skip(1).filter_map(|rest| rest.split('"').next());
        let own = ["data:,", "metrics", "status.json", "healthz"];
        assert_eq!(links.collect::<Vec<_>>(), own);
        assert_eq!(PAGE.matches("<script>").count(), 1);
        assert_eq!(PAGE.matches("<style>").count(), 1);
    }

    #[test]
    fn the_policy_allows_script_and_style_by_their_hashes() {
        // The hash of nothing, as `printf '' | openssl dgst -sha256 -binary | base64` has it.
        let policy = policy("<style></style><script>x</script>");
        assert!(
            policy.contains("style-src 'sha256-47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU='"),
            "{policy}"
        );
        let sources = policy.split([' ', ';']).filter(|word| word.starts_with('\''));
        let strict =
            |word: &str| word.starts_with("'sha256-") || ["'none'", "'self'"].contains(&word);
        assert!(sources.clone().count() > 5 && sources.into_iter().all(strict), "{policy}");
        assert!(policy.starts_with("default-src 'none'"), "{policy}");
    }

    #[test]
    fn the_page_shows_every_role_and_every_next_step() {
        let roles = PAGE.split_once("const ROLES = [").and_then(|(_, rest)| rest.split_once(']'));
        let mut roles: Vec<&str> = roles
            .map_or("", |(roles, _)| roles)
            .split(", ")
            .map(|word| word.trim_matches('"'))
            .collect();
        roles.sort_unstable();
        let mut all = Role::ALL.map(Role::name);
        all.sort_unstable();
        assert_eq!(roles, all);
        for role in Role::ALL {
            assert!(PAGE.contains(&format!(".ribbon .{role}")), "{role} has no colour");
        }
        for step in NextStep::ALL {
            assert!(PAGE.contains(&format!("case \"{step}\": return")), "{step}");
        }
    }

    #[test]
    fn the_dashboard_shows_every_role() {
        let dashboard = include_str!("../../etc/grafana/vipd.json").replace("\\\"", "\"");
        for role in Role::ALL {
            assert!(dashboard.contains(&format!("role=\"{role}\"")), "no series of {role}");
            assert!(dashboard.contains(&format!("\"text\": \"{role}\"")), "no text for {role}");
        }
    }
}
