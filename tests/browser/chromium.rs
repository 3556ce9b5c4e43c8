//! Chromium, driven over WebDriver (W3C) by the little of it that the tests need.
//!
//! Libraries for it would make the binary under test another one: one of them turns on a feature of serde_json, which cargo
//! gives to all, and others bring an HTTP stack of their own.

use std::io::{Read, Write};
use std::process::Stdio;
use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use reqwest::Method;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};
use tokio::sync::{Mutex, MutexGuard};

use crate::support::eventually;

/// How long the driver may take for anything.
const LIMIT: Duration = Duration::from_secs(60);
/// How long its end may take.
const ENDING: Duration = Duration::from_secs(10);
/// One at a time: each is as heavy as all the rest.
static ONE: Mutex<()> = Mutex::const_new(());

/// How the browser is set.
#[derive(Clone, Copy)]
pub struct Look {
    pub width: u32,
    pub height: u32,
    pub is_dark: bool,
    pub runs_scripts: bool,
}

impl Look {
    pub const WIDE: Self = Self { width: 1280, height: 860, is_dark: false, runs_scripts: true };
}

/// A browser with one window. It ends when it is dropped.
pub struct Browser {
    http: reqwest::Client,
    session: String,
    _profile: TempDir,
    _driver: Child,
    _alone: MutexGuard<'static, ()>,
}

impl Browser {
    pub async fn start(look: Look) -> Self {
        let alone = ONE.lock().await;
        let mut driver = Command::new("chromedriver")
            .args(["--port=0", "--allowed-ips=127.0.0.1"])
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .expect("chromedriver: ./scripts/test installs it");
        let mut lines = BufReader::new(driver.stdout.take().unwrap()).lines();
        let port = loop {
            let line = lines.next_line().await.unwrap().expect("it says where it listens");
            if let Some((_, port)) = line.split_once("successfully on port ") {
                break port.trim_end_matches('.').to_owned();
            }
        };
        // What it says later must not stop it.
        tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
        let profile = tempfile::tempdir().unwrap();
        let mut arguments: Vec<String> = [
            "--headless=new",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-quic",
            "--no-first-run",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            "--disable-dev-shm-usage",
            "--hide-scrollbars",
            "--force-device-scale-factor=1",
            "--disable-features=OptimizationHints,MediaRouter",
        ]
        .map(str::to_owned)
        .into();
        arguments.push(format!("--window-size={},{}", look.width, look.height));
        arguments.push(format!("--user-data-dir={}", profile.path().display()));
        let scripts = if look.runs_scripts { 1 } else { 2 };
        let wanted = json!({"capabilities": {"alwaysMatch": {
            "browserName": "chrome",
            "acceptInsecureCerts": true,
            "goog:loggingPrefs": {"browser": "ALL"},
            "goog:chromeOptions": {
                "args": arguments,
                "prefs": {"profile.managed_default_content_settings.javascript": scripts},
            },
        }}});
        let http = http_client();
        let base = format!("http://127.0.0.1:{port}/session");
        let made = ask(&http, Method::POST, &base, wanted).await;
        let id = made["sessionId"].as_str().unwrap();
        let browser = Self {
            session: format!("{base}/{id}"),
            http,
            _profile: profile,
            _driver: driver,
            _alone: alone,
        };
        browser.looks(look).await;
        browser
    }

    /// Sets the size of what is seen, and whether the system wishes it dark.
    pub async fn looks(&self, look: Look) {
        let (width, height) = (look.width, look.height);
        let size = json!({
            "width": width, "height": height, "deviceScaleFactor": 1, "mobile": false,
        });
        self.devtools("Emulation.setDeviceMetricsOverride", size).await;
        let scheme = if look.is_dark { "dark" } else { "light" };
        let wish = json!({"features": [{"name": "prefers-color-scheme", "value": scheme}]});
        self.devtools("Emulation.setEmulatedMedia", wish).await;
    }

    /// Shows the page as it would be printed.
    pub async fn prints(&self) {
        self.devtools("Emulation.setEmulatedMedia", json!({"media": "print"})).await;
    }

    async fn devtools(&self, command: &str, parameters: Value) -> Value {
        self.post("goog/cdp/execute", json!({"cmd": command, "params": parameters})).await
    }

    async fn post(&self, path: &str, body: Value) -> Value {
        ask(&self.http, Method::POST, &format!("{}/{path}", self.session), body).await
    }

    async fn get(&self, path: &str) -> Value {
        ask(&self.http, Method::GET, &format!("{}/{path}", self.session), Value::Null).await
    }

    pub async fn goes(&self, url: &str) {
        self.post("url", json!({"url": url})).await;
    }

    /// The path and query of the address that it shows.
    pub async fn path(&self) -> String {
        let url = self.get("url").await;
        let url = url::Url::parse(url.as_str().unwrap()).unwrap();
        url[url::Position::BeforePath..url::Position::AfterQuery].to_owned()
    }

    /// Waits until the address is this one.
    pub async fn arrives(&self, path: &str) {
        eventually(&format!("it shows {path}"), async || (self.path().await == path).then_some(()))
            .await;
    }

    /// The elements that a CSS selector finds.
    async fn elements(&self, css: &str) -> Vec<String> {
        let found = self.post("elements", json!({"using": "css selector", "value": css})).await;
        let ids = found.as_array().unwrap().iter();
        ids.map(|element| {
            let id = element.as_object().unwrap().values().next().unwrap();
            id.as_str().unwrap().to_owned()
        })
        .collect()
    }

    /// The first element that is found, once it is.
    async fn element(&self, css: &str) -> String {
        eventually(&format!("there is {css}"), async || self.elements(css).await.into_iter().next())
            .await
            .0
    }

    pub async fn has(&self, css: &str) -> bool {
        !self.elements(css).await.is_empty()
    }

    pub async fn clicks(&self, css: &str) {
        let element = self.element(css).await;
        self.post(&format!("element/{element}/click"), json!({})).await;
    }

    pub async fn writes(&self, css: &str, text: &str) {
        let element = self.element(css).await;
        self.post(&format!("element/{element}/value"), json!({"text": text})).await;
    }

    /// Waits until this is read there.
    pub async fn reads(&self, css: &str, part: &str) {
        eventually(&format!("{css} reads {part}"), async || {
            for element in self.elements(css).await {
                let url = format!("{}/element/{element}/text", self.session);
                // One that was replaced meanwhile is looked for again.
                let read = try_ask(&self.http, Method::GET, &url, Value::Null).await.ok();
                if read.is_some_and(|text| text.as_str().unwrap_or_default().contains(part)) {
                    return Some(());
                }
            }
            None
        })
        .await;
    }

    /// Loads the page again and again until this is read there.
    pub async fn reads_in_time(&self, css: &str, part: &str) {
        eventually(&format!("{css} reads {part}"), async || {
            self.post("refresh", json!({})).await;
            let mut read = String::new();
            for element in self.elements(css).await {
                read += self.get(&format!("element/{element}/text")).await.as_str().unwrap();
            }
            read.contains(part).then_some(())
        })
        .await;
    }

    /// Presses keys, one after the other, wherever the focus is. Names as in WebDriver: `\u{E004}` is Tab, `\u{E007}` Enter.
    pub async fn presses(&self, keys: &str) {
        let actions: Vec<Value> = keys
            .chars()
            .flat_map(|key| {
                ["keyDown", "keyUp"].map(|act| json!({"type": act, "value": key.to_string()}))
            })
            .collect();
        let keyboard = json!({"type": "key", "id": "keyboard", "actions": actions});
        self.post("actions", json!({"actions": [keyboard]})).await;
    }

    /// Runs a script of the test, whatever the page's policy says; what it returns.
    pub async fn runs(&self, script: &str) -> Value {
        self.post("execute/sync", json!({"script": script, "args": []})).await
    }

    /// Runs a script that calls `arguments[0]` with what it found.
    pub async fn runs_async(&self, script: &str) -> Value {
        self.post("execute/async", json!({"script": script, "args": []})).await
    }

    /// A picture of the window, as PNG.
    pub async fn picture(&self) -> Vec<u8> {
        let picture = self.get("screenshot").await;
        BASE64_STANDARD.decode(picture.as_str().unwrap()).unwrap()
    }

    /// What the browser's console was told since the last time: errors, and what a page's policy forbids.
    pub async fn complaints(&self) -> Vec<String> {
        let log = self.post("se/log", json!({"type": "browser"})).await;
        let lines = log.as_array().unwrap().iter();
        let bad = lines.filter(|line| line["level"] == "SEVERE" || line["level"] == "WARNING");
        bad.map(|line| line["message"].as_str().unwrap().to_owned()).collect()
    }
}

/// The driver ends what it has started only if it is told to.
impl Drop for Browser {
    fn drop(&mut self) {
        let url = url::Url::parse(&self.session).unwrap();
        let address = (url.host_str().unwrap(), url.port().unwrap());
        let request = format!(
            "DELETE {} HTTP/1.1\r\nhost: {}:{}\r\nconnection: close\r\n\r\n",
            url.path(),
            address.0,
            address.1
        );
        let end = || -> std::io::Result<()> {
            let mut stream = std::net::TcpStream::connect(address)?;
            stream.set_read_timeout(Some(ENDING))?;
            stream.write_all(request.as_bytes())?;
            // It answers once the browser is gone.
            match stream.read(&mut [0; 64])? {
                0 => Err(std::io::ErrorKind::UnexpectedEof.into()),
                _ => Ok(()),
            }
        };
        if let Err(error) = end() {
            eprintln!("the browser was not ended: {error}");
        }
    }
}

#[allow(clippy::disallowed_methods, reason = "it speaks to the driver, not to the bus")]
fn http_client() -> reqwest::Client {
    let roots = rustls::RootCertStore::empty();
    let unused = rustls::ClientConfig::builder().with_root_certificates(roots);
    let unused = unused.with_no_client_auth();
    let http = reqwest::Client::builder().timeout(LIMIT).no_proxy();
    http.tls_backend_preconfigured(unused).build().unwrap()
}

async fn ask(http: &reqwest::Client, method: Method, url: &str, body: Value) -> Value {
    let asked = format!("{method} {url} {body}");
    try_ask(http, method, url, body).await.unwrap_or_else(|error| panic!("{asked}: {error}"))
}

async fn try_ask(
    http: &reqwest::Client,
    method: Method,
    url: &str,
    body: Value,
) -> Result<Value, Value> {
    let mut request = http.request(method, url);
    if !body.is_null() {
        request = request.header("content-type", "application/json").body(body.to_string());
    }
    let response = request.send().await.map_err(|error| json!(error.to_string()))?;
    let is_well = response.status().is_success();
    let text = response.text().await.map_err(|error| json!(error.to_string()))?;
    let answer: Value = serde_json::from_str(&text).map_err(|_| json!(text))?;
    if is_well { Ok(answer["value"].clone()) } else { Err(answer["value"].clone()) }
}
