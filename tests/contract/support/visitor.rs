//! A visitor of the console, with a browser that runs no script: it keeps cookies, follows nothing by itself, and fills
//! forms in.

use std::collections::BTreeMap;
use std::sync::Mutex;

use reqwest::Method;

use super::client::{Client, Reply};
use super::process::Process;

/// What a form carries.
const FORM: (&str, &str) = ("content-type", "application/x-www-form-urlencoded");
const CODE: &str = "name=\"code\" value=\"";

pub struct Visitor {
    client: Client,
    cookies: Mutex<BTreeMap<String, String>>,
}

impl Visitor {
    pub fn new(server: &Process) -> Self {
        Self { client: server.anonymous().beside_the_api(), cookies: Mutex::default() }
    }

    /// Somebody who has signed in with this token.
    pub async fn signed_in(server: &Process, token: &str) -> Self {
        let visitor = Self::new(server);
        let reply = visitor.sign_in(token, "").await.expect(303);
        assert_eq!(reply.header("location"), Some("/console"));
        visitor
    }

    /// The same session at another process.
    pub fn at(&self, server: &Process) -> Self {
        let cookies = Mutex::new(self.cookies.lock().unwrap().clone());
        Self { client: server.anonymous().beside_the_api(), cookies }
    }

    /// Fills the form in that asks for a token.
    pub async fn sign_in(&self, token: &str, then: &str) -> Reply {
        self.submit("/console/sign-in", "/console/sign-in", &[("token", token), ("then", then)])
            .await
    }

    /// Its cookies, as a header has them.
    pub fn cookie(&self) -> String {
        let cookies = self.cookies.lock().unwrap();
        let pairs: Vec<_> = cookies.iter().map(|(name, value)| format!("{name}={value}")).collect();
        pairs.join("; ")
    }

    pub async fn get(&self, path: &str) -> Reply {
        self.send(Method::GET, path, &[], String::new()).await
    }

    /// A page that is there.
    pub async fn page(&self, path: &str) -> String {
        self.get(path).await.expect(200).body
    }

    /// Loads a page, and sends a form to `action` with the code that the page's forms have.
    pub async fn submit(&self, page: &str, action: &str, fields: &[(&str, &str)]) -> Reply {
        let page = self.page(page).await;
        let (_, rest) = page.split_once(CODE).unwrap_or_else(|| panic!("no form: {page}"));
        let (code, _) = rest.split_once('"').unwrap();
        self.send_form(action, code, fields).await
    }

    /// Sends a form with this code.
    pub async fn send_form(&self, action: &str, code: &str, fields: &[(&str, &str)]) -> Reply {
        let mut form = url::form_urlencoded::Serializer::new(String::new());
        form.append_pair("code", code).extend_pairs(fields);
        self.send(Method::POST, action, &[FORM], form.finish()).await
    }

    /// Does something on a page, which must work; what the page says of it.
    pub async fn acts(&self, page: &str, action: &str, fields: &[(&str, &str)]) -> String {
        let reply = self.submit(page, action, fields).await.expect(303);
        let then = reply.header("location").unwrap().to_owned();
        let page = self.page(&then).await;
        let said = page.split_once("notice done\" role=\"status\">").map(|(_, rest)| rest);
        let said = said.unwrap_or_else(|| panic!("{action} did not work: {page}"));
        said.split_once('<').unwrap().0.to_owned()
    }

    async fn send(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: String,
    ) -> Reply {
        let cookies = self.cookie();
        let mut headers = headers.to_vec();
        if !cookies.is_empty() {
            headers.push(("cookie", &cookies));
        }
        let reply = self.client.try_send(method, path, &headers, body).await.expect("an answer");
        for cookie in reply.headers.get_all("set-cookie") {
            let text = cookie.to_str().unwrap();
            let (pair, rest) = text.split_once(';').unwrap();
            let (name, value) = pair.split_once('=').unwrap();
            let mut cookies = self.cookies.lock().unwrap();
            match rest.contains("Max-Age=0") {
                true => drop(cookies.remove(name)),
                false => drop(cookies.insert(name.to_owned(), value.to_owned())),
            }
        }
        reply
    }
}
