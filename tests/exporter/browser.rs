//! A headless Chromium on a host of the lab, driven by chromedriver (W3C WebDriver: JSON over HTTP).

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::lab::{Daemon, Host, wait_for};
use base64::Engine as _;
use serde_json::{Value, json};

use crate::{TIMEOUT, ask};

const DRIVER: u16 = 9515;

/// One window with an empty profile; it ends with this value.
pub struct Browser<'a> {
    host: &'a Host,
    /// The path of its session.
    session: String,
    _driver: Daemon,
}

impl<'a> Browser<'a> {
    pub fn start(host: &'a Host) -> Self {
        let mut command = Command::new("chromedriver");
        command.arg(format!("--port={DRIVER}"));
        let log = host.dir().join("chromedriver.log");
        let driver = Daemon::spawn(host, &command, PathBuf::new(), log).unwrap();
        let ready = || {
            let answer = send(host, "GET", "/status", None)?;
            (answer["value"]["ready"] == true).then_some(())
        };
        assert!(wait_for(TIMEOUT, ready).is_some(), "{}", driver.log());
        let profile = host.dir().join("profile");
        let arguments = [
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-quic",
            "--no-first-run",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            "--disable-dev-shm-usage",
            "--hide-scrollbars",
            // By a pipe it sees the end of chromedriver, and ends, too.
            "--remote-debugging-pipe",
            &format!("--user-data-dir={}", profile.display()),
        ];
        let wanted = json!({ "capabilities": { "alwaysMatch": {
            "browserName": "chrome",
            "goog:loggingPrefs": { "browser": "ALL" },
            "goog:chromeOptions": { "args": arguments, "binary": "/usr/bin/chromium" },
        } } });
        let answer = send(host, "POST", "/session", Some(&wanted)).unwrap();
        let id = answer["value"]["sessionId"].as_str();
        let id = id.unwrap_or_else(|| panic!("{answer:#}\n{}", driver.log()));
        Browser { host, session: format!("/session/{id}"), _driver: driver }
    }

    pub fn open(&self, url: &str) {
        self.post("/url", &json!({ "url": url }));
    }

    /// What a script in the page returns.
    pub fn script(&self, script: &str) -> Value {
        self.post("/execute/sync", &json!({ "script": script, "args": [] }))
    }

    /// Waits until an element's visible text contains this.
    pub fn expect(&self, what: &str, selector: &str, text: &str) {
        let script =
            "const found = document.querySelector(arguments[0]); return found && found.innerText";
        let arguments = json!({ "script": script, "args": [selector] });
        let look = || self.post("/execute/sync", &arguments);
        let found = || look().as_str().is_some_and(|found| found.contains(text)).then_some(());
        assert!(wait_for(TIMEOUT, found).is_some(), "{what}: not {text:?} but {}", look());
    }

    /// Size in pixels, and the colour scheme that its user prefers.
    pub fn show_as(&self, width: u64, height: u64, scheme: &str) {
        let size = json!({ "width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 500 });
        self.command("Emulation.setDeviceMetricsOverride", &size);
        let preferred = json!([{ "name": "prefers-color-scheme", "value": scheme }]);
        self.command("Emulation.setEmulatedMedia", &json!({ "features": preferred }));
    }

    /// The whole page as an image in `target/`.
    pub fn screenshot(&self, name: &str) {
        let whole = json!({ "captureBeyondViewport": true });
        let taken = self.command("Page.captureScreenshot", &whole);
        let bytes =
            base64::engine::general_purpose::STANDARD.decode(taken["data"].as_str().unwrap());
        let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().unwrap();
        fs::write(dir.join(format!("{name}.png")), bytes.unwrap()).unwrap();
    }

    /// The messages of the browser's console.
    pub fn complaints(&self) -> Vec<String> {
        let log = self.post("/se/log", &json!({ "type": "browser" }));
        let entries = log.as_array().unwrap().iter();
        let severe = entries.filter(|entry| entry["level"] == "SEVERE");
        severe.map(|entry| entry["message"].as_str().unwrap().to_owned()).collect()
    }

    fn command(&self, name: &str, parameters: &Value) -> Value {
        self.post("/goog/cdp/execute", &json!({ "cmd": name, "params": parameters }))
    }

    fn post(&self, path: &str, body: &Value) -> Value {
        let path = format!("{}{path}", self.session);
        let answer = send(self.host, "POST", &path, Some(body)).unwrap();
        assert!(answer["value"]["error"].is_null(), "{path}: {:#}", answer["value"]);
        answer["value"].clone()
    }
}

impl Drop for Browser<'_> {
    fn drop(&mut self) {
        // Chromium's processes end with their session; chromedriver is killed afterwards.
        send(self.host, "DELETE", &self.session, None);
    }
}

fn send(host: &Host, method: &str, path: &str, body: Option<&Value>) -> Option<Value> {
    let body = body.map(Value::to_string).unwrap_or_default();
    let request = format!(
        "{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    let address = SocketAddr::from(([127, 0, 0, 1], DRIVER));
    serde_json::from_str(&ask(host, address, &request)?.body).ok()
}
