//! `vipd exporter`: metrics for Prometheus and a page for people, by HTTP.
//!
//! A process without privileges beside the daemon and a client of its control socket: what comes from
//! the network never reaches the process that holds the addresses. It only ever asks; nothing can be
//! changed through it. Clients, their time and their requests are bounded, and however many ask, the
//! daemon is asked at most four times a second.

mod metrics;

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
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
use tokio::sync::{Mutex, Semaphore};
use tokio::time::{sleep, timeout};

use crate::api::status::Status;
use crate::daemon::control::{self, Answer, Code};
use crate::daemon::history::Event;
use crate::host::systemd::Systemd;
use metrics::Format;

/// The page, whole: style and script are in it.
const PAGE: &str = include_str!("page.html");
/// Served at the same time; more wait until one is done.
const CLIENTS: usize = 64;
/// To send a request.
const PATIENCE: Duration = Duration::from_secs(5);
/// For everything about one request: the daemon may take its time to answer, the client to read.
const LONGEST: Duration = Duration::from_secs(20);
/// The longest head of a request, in bytes; bodies are not read.
const LONGEST_HEAD: usize = 16 << 10;
/// What the daemon said is told again for so long.
const FRESH: Duration = Duration::from_millis(250);

/// Serves for ever.
///
/// # Errors
/// When the address cannot be listened on.
pub fn run(listen: SocketAddr, runtime_dir: &Path) -> io::Result<()> {
    let executor = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(2)
        .build()?;
    executor.block_on(async {
        let listener = TcpListener::bind(listen)?;
        listener.set_nonblocking(true)?;
        let listener = tokio::net::TcpListener::from_std(listener)?;
        let desk = Arc::new(Desk::new(runtime_dir)?);
        Systemd::from_env().ready(&format!("serving on http://{listen}/"));
        serve(listener, desk).await
    })
}

async fn serve(listener: tokio::net::TcpListener, desk: Arc<Desk>) -> io::Result<()> {
    let places = Arc::new(Semaphore::new(CLIENTS));
    loop {
        let place = Arc::clone(&places).acquire_owned().await.map_err(io::Error::other)?;
        let Ok((stream, _)) = listener.accept().await else {
            // Out of descriptors, perhaps: those that are served give theirs back.
            sleep(Duration::from_millis(100)).await;
            continue;
        };
        let desk = Arc::clone(&desk);
        tokio::spawn(async move {
            let service = service_fn(|request| {
                let desk = Arc::clone(&desk);
                async move { Ok::<_, std::convert::Infallible>(desk.answer(&request).await) }
            });
            // One request for each connection: a place is never held by one who wants nothing.
            let connection = http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(PATIENCE)
                .keep_alive(false)
                .max_buf_size(LONGEST_HEAD)
                .serve_connection(TokioIo::new(stream), service);
            // A client that breaks off has its reasons.
            let _ = timeout(LONGEST, pin!(connection)).await;
            drop(place);
        });
    }
}

/// Why there is nothing to tell; the same for people and, with its code, for programs.
#[derive(Clone, Debug, Serialize)]
struct Trouble {
    code: &'static str,
    text: String,
}

type Asked<T> = Result<Arc<T>, Trouble>;

/// What was asked of the daemon, and is told again while it is fresh.
type Remembered<T> = Mutex<Option<(Instant, Asked<T>)>>;

/// What the connections share.
struct Desk {
    runtime_dir: PathBuf,
    policy: HeaderValue,
    status: Remembered<Status>,
    events: Remembered<Vec<Event>>,
}

#[derive(Serialize)]
struct Document<'a, T> {
    version: u32,
    /// When this was told, by the clock that all other times are from.
    at: String,
    #[serde(flatten)]
    body: &'a T,
}

#[derive(Serialize)]
struct Events<'a> {
    events: &'a [Event],
}

#[derive(Serialize)]
struct NoAnswer<'a> {
    error: &'a Trouble,
}

impl Desk {
    fn new(runtime_dir: &Path) -> io::Result<Self> {
        Ok(Desk {
            runtime_dir: runtime_dir.to_owned(),
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
                Err(error) => json(StatusCode::SERVICE_UNAVAILABLE, &NoAnswer { error: &error }),
            },
            "/events.json" => match self.events().await {
                Ok(events) => json(StatusCode::OK, &Events { events: &events }),
                Err(error) => json(StatusCode::SERVICE_UNAVAILABLE, &NoAnswer { error: &error }),
            },
            _ => plain(
                StatusCode::NOT_FOUND,
                "there is: / /metrics /healthz /status.json /events.json\n",
            ),
        }
    }

    async fn status(&self) -> Asked<Status> {
        self.ask(&self.status, control::Request::Status, |answer| match answer {
            Answer::Status(status) => Ok(*status),
            other => Err(other),
        })
        .await
    }

    async fn events(&self) -> Asked<Vec<Event>> {
        self.ask(&self.events, control::Request::Events, |answer| match answer {
            Answer::Events { events } => Ok(events),
            other => Err(other),
        })
        .await
    }

    /// Who asks while the daemon is being asked waits, and is told the same.
    async fn ask<T>(
        &self,
        remembered: &Remembered<T>,
        request: control::Request,
        wanted: fn(Answer) -> Result<T, Answer>,
    ) -> Asked<T> {
        let mut remembered = remembered.lock().await;
        if let Some((told_at, asked)) = &*remembered
            && told_at.elapsed() < FRESH
        {
            return asked.clone();
        }
        let runtime_dir = self.runtime_dir.clone();
        let answer = tokio::task::spawn_blocking(move || control::ask(&runtime_dir, &request));
        let asked = match answer.await {
            Ok(Ok(answer)) => wanted(answer).map(Arc::new).map_err(unwanted),
            Ok(Err(why)) => Err(Trouble { code: no_answer(&why), text: why.to_string() }),
            Err(error) => Err(Trouble { code: "failed", text: error.to_string() }),
        };
        *remembered = Some((Instant::now(), asked.clone()));
        asked
    }
}

fn unwanted(answer: Answer) -> Trouble {
    match answer {
        Answer::Error { code, text } => Trouble {
            code: match code {
                Code::BadRequest => "bad_request",
                Code::Busy => "busy",
                Code::NotAllowed => "not_allowed",
                Code::UnknownRouter => "unknown_router",
                Code::Refused => "refused",
                Code::Failed => "failed",
            },
            text,
        },
        Answer::Status(_)
        | Answer::Events { .. }
        | Answer::Moved { .. }
        | Answer::Done { .. }
        | Answer::Reloaded { .. } => Trouble {
            code: "not_understood",
            text: "the daemon answered something else than it was asked".to_owned(),
        },
    }
}

fn no_answer(why: &control::NoAnswer) -> &'static str {
    match why {
        control::NoAnswer::NoDaemon(_) => "no_daemon",
        control::NoAnswer::NotAllowed(_) => "not_allowed",
        control::NoAnswer::Lost(..) => "lost",
        control::NoAnswer::NotUnderstood(_) => "not_understood",
    }
}

/// Whether the host can do its part, as a sentence: a drained one can, and says so.
fn health(status: &Status) -> Result<String, String> {
    if status.stopping {
        return Err("vipd is about to end".to_owned());
    }
    let unfit: Vec<String> = status
        .routers
        .iter()
        .filter(|router| !router.fault_reasons.is_empty())
        .map(|router| {
            let reasons: Vec<&str> =
                router.fault_reasons.iter().map(|reason| reason.text.as_str()).collect();
            format!("{} is {}: {}", router.name, router.role, reasons.join("; "))
        })
        .collect();
    if !unfit.is_empty() {
        return Err(unfit.join("\n"));
    }
    let mut roles: Vec<String> =
        status.routers.iter().map(|router| format!("{} is {}", router.name, router.role)).collect();
    if status.drained {
        roles.push("this host is drained".to_owned());
    }
    Ok(roles.join(", "))
}

/// What the page may do: run its own script and style, which are known by their hashes, and ask the
/// server that it came from. Nothing else, from nowhere else.
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
    let document = Document { version: control::VERSION, at, body };
    // Strings, numbers and lists of them: nothing that JSON could not say.
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

    #[test]
    fn the_page_asks_nobody_but_its_own_server() {
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
    fn the_policy_knows_script_and_style_by_their_hashes() {
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
}
