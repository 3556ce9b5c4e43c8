//! The console (§15) in a real browser: Chromium, with and without scripts, by keyboard alone, narrow and dark.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Value, json};

use crate::chromium::{Browser, Look};
use crate::support::{Answer, Bus, ORDERS, Process, ROOT, Receiver, Store, event, eventually, run};

const NARROW: Look = Look { width: 360, height: 740, is_dark: true, runs_scripts: true };
/// What pictures are made with.
const PICTURE: Look = Look { width: 1120, height: 720, ..Look::WIDE };
const WITHOUT_SCRIPTS: Look = Look { runs_scripts: false, ..Look::WIDE };

/// WebDriver's names of keys.
const TAB: &str = "\u{E004}";
const ENTER: &str = "\u{E007}";
const ESCAPE: &str = "\u{E00C}";

/// A bus with something of everything: events that arrive and events that are refused, calls and messages of each state.
struct Stage {
    _bus: Bus,
    server: Process,
    /// Of events, and of calls and messages.
    events: Receiver,
    others: Receiver,
    /// Where nothing gets through.
    bad: Receiver,
}

async fn stage(store: &Store) -> Stage {
    let bus = Bus::new(store);
    let server = bus.serve().await;
    let (events, others, bad) = (bus.receiver().await, bus.receiver().await, bus.receiver().await);
    bad.answer(Answer::Text(503, json!({"error": "the database is away"}).to_string()));
    let (demo, orders) = (server.client("demo"), server.client(ORDERS));
    for topic in ["bookings", "properties"] {
        demo.claims(topic).await;
    }
    let keep = json!({"ms": 3_600_000, "bytes": 1_000_000}).to_string();
    demo.put("/topics/bookings/keep", keep).await.expect(204);
    demo.subscribes(&events, &["bookings", "properties"], json!({"timeout": 0})).await;
    orders.subscribes(&bad, &["bookings"], json!({"timeout": 0, "max": 2})).await;
    demo.publishes("bookings", 1..=6).await;
    demo.publishes("properties", 7..=9).await;
    let queue = orders.get("/subscriptions/orders/queue?limit=1").await.expect(200).json();
    let first = json!({"through": queue["events"][0]["position"]}).to_string();
    orders.post("/subscriptions/orders/skip", first).await.expect(200);
    for (receiver, attempts) in [(&others, 5), (&bad, 1), (&bad, 5)] {
        let call = json!({
            "method": "POST", "url": format!("{}/hooks/booking", receiver.url()), "requeue": true,
            "headers": {"authorization": "Bearer s3same", "x-trace": "t-1"}, "body": r#"{"booking":17}"#,
            "max_attempts": attempts,
        });
        demo.post("/calls", call.to_string()).await.expect(202);
    }
    let topic = json!({"name": "payments", "origin_host": "https://payments.example"});
    demo.post("/api/topics", topic.to_string()).await.expect(201);
    for receiver in [&others, &bad] {
        let publisher = json!({
            "topic": "payments", "type": "http", "target": format!("{}/payments", receiver.url()), "active": true,
        });
        demo.post("/api/publishers", publisher.to_string()).await.expect(201);
    }
    let message = json!({"topic": "payments", "payload": {"amount": 120, "note": "pine"}, "attributes": {"region": "eu"}});
    demo.post("/api/messages", message.to_string()).await.expect(201);
    events.numbers(9).await;
    Stage { _bus: bus, server, events, others, bad }
}

impl Stage {
    fn url(&self, path: &str) -> String {
        format!("{}{path}", self.server.base())
    }

    /// A browser in which somebody has signed in.
    async fn visited_by(&self, token: &str, look: Look) -> Browser {
        let browser = Browser::start(look).await;
        browser.goes(&self.url("/console")).await;
        browser.arrives("/console/sign-in").await;
        browser.writes("#token", token).await;
        browser.clicks("button.primary").await;
        browser.arrives("/console").await;
        browser
    }
}

/// Every page there is, by its list and by the first row of each list.
async fn all_pages(browser: &Browser, stage: &Stage) -> Vec<String> {
    let lists = [
        "/console",
        "/console/live",
        "/console/subscriptions",
        "/console/topics",
        "/console/calls",
        "/console/messages",
        "/console/message-topics",
        "/console/publishers",
        "/console/dead-letters",
        "/console/journal",
        "/console/processes",
    ];
    let mut pages: Vec<String> = lists.map(str::to_owned).into();
    for more in [
        "/console/calls/new",
        "/console/message-topics/new",
        "/console/publishers/new",
        "/console/calls?act=all",
        "/console/journal?failed=true&kind=call",
        "/console/nowhere",
        "/console?range=week",
    ] {
        pages.push(more.to_owned());
    }
    for list in &lists[2..10] {
        browser.goes(&stage.url(list)).await;
        let found = browser.runs(
            "return [...document.querySelectorAll('main a.row')].map((row) => row.getAttribute('href'))",
        );
        let found = found.await;
        let rows = found.as_array().unwrap().iter().filter_map(Value::as_str);
        // Of each kind one; of what a list of calls leads to, the call and not the list of a destination.
        pages.extend(rows.filter(|row| !row.contains("destination=")).take(2).map(str::to_owned));
    }
    pages
}

/// Where packages from npm are.
fn node_modules() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/node/node_modules")
}

/// What axe has to say against a page.
async fn barriers(browser: &Browser) -> Vec<String> {
    let path = node_modules().join("axe-core/axe.min.js");
    let axe = std::fs::read_to_string(path).expect("axe-core: ./scripts/test installs it");
    browser.runs(&axe).await;
    let run = "const done = arguments[0]; axe.run().then((found) => done(found.violations.map((one) => \
               `${one.id}: ${one.nodes[0].html} ${one.nodes[0].failureSummary}`)));";
    let found = browser.runs_async(run).await;
    found.as_array().unwrap().iter().map(|one| one.as_str().unwrap().to_owned()).collect()
}

#[test]
fn every_page_is_whole_wide_and_narrow_light_and_dark_and_keeps_nobody_out() {
    run(async {
        let stage = stage(&Store::sqlite()).await;
        let browser = stage.visited_by(ROOT, Look::WIDE).await;
        eventually("there is something of everything", async || {
            browser.goes(&stage.url("/console/calls?state=dead")).await;
            let dead = browser.has("main table a.row").await;
            browser.goes(&stage.url("/console/messages?state=failing")).await;
            (dead && browser.has("main table a.row").await).then_some(())
        })
        .await;
        let pages = all_pages(&browser, &stage).await;
        assert!(pages.len() > 28, "{pages:?}");
        browser.complaints().await;
        for look in [Look::WIDE, NARROW] {
            browser.looks(look).await;
            for page in &pages {
                browser.goes(&stage.url(page)).await;
                assert!(browser.has("h1").await, "{page}");
                let width = browser.runs("return document.documentElement.scrollWidth").await;
                assert!(width.as_u64().unwrap() <= u64::from(look.width), "{page} is {width} wide");
                let barriers = barriers(&browser).await;
                assert!(barriers.is_empty(), "{page}: {barriers:#?}");
                let complaints = browser.complaints().await;
                let complaints: Vec<_> =
                    complaints.iter().filter(|line| !line.contains("/console/nowhere")).collect();
                assert!(complaints.is_empty(), "{page}: {complaints:#?}");
            }
        }
    });
}

#[test]
fn what_is_printed_is_the_table_and_not_what_is_around_it() {
    run(async {
        let stage = stage(&Store::sqlite()).await;
        let browser = stage.visited_by(ROOT, Look::WIDE).await;
        browser.goes(&stage.url("/console/journal")).await;
        browser.reads("#live-list", "503").await;
        browser.prints().await;
        let shown = "return [...document.querySelectorAll('form, nav, button, thead, td')]
             .filter((one) => one.offsetParent).map((one) => one.localName)";
        let shown = browser.runs(shown).await;
        let shown: BTreeSet<_> =
            shown.as_array().unwrap().iter().filter_map(Value::as_str).collect();
        assert_eq!(shown.into_iter().collect::<Vec<_>>(), ["td", "thead"]);
    });
}

#[test]
fn the_keyboard_alone_leads_from_signing_in_to_the_cause_and_mends_it() {
    run(async {
        let stage = stage(&Store::sqlite()).await;
        let browser = Browser::start(Look::WIDE).await;
        browser.goes(&stage.url("/console/sign-in")).await;
        // The field has the focus.
        browser.presses(&format!("{ROOT}{ENTER}")).await;
        browser.arrives("/console").await;
        browser.reads("#live-trouble", "the database is away").await;
        // The first row is what is in trouble: two keys.
        browser.presses("j").await;
        browser.presses(ENTER).await;
        browser.reads("h1", "Subscription orders").await;
        browser.reads(".notice.failed", "the database is away").await;
        // The first button of the page itself.
        let mut tabs = 0;
        while browser.runs("return document.activeElement.textContent").await != json!("Pause") {
            browser.presses(TAB).await;
            tabs += 1;
            assert!(tabs < 40, "there is a way to the button");
        }
        browser.presses(ENTER).await;
        browser.reads(".notice.done", "Paused").await;
        for (keys, path) in [
            ("gs", "/console/subscriptions"),
            ("gj", "/console/journal"),
            ("gd", "/console/dead-letters"),
            ("gt", "/console/topics"),
            ("gc", "/console/calls"),
            ("gm", "/console/messages"),
            ("gi", "/console/message-topics"),
            ("gp", "/console/publishers"),
            ("gr", "/console/processes"),
            ("gl", "/console/live"),
            ("go", "/console"),
        ] {
            browser.presses(keys).await;
            browser.arrives(path).await;
        }
        browser.presses("?").await;
        browser.reads("dialog[open]", "search or filter").await;
        browser.presses(ESCAPE).await;
        browser.presses("gs").await;
        browser.arrives("/console/subscriptions").await;
        browser.presses(&format!("/demo{ENTER}")).await;
        browser.arrives("/console/subscriptions?text=demo&state=&topic=").await;
        assert_eq!(
            browser.runs("return document.querySelectorAll('a.row').length").await,
            json!(1)
        );
        assert_eq!(browser.complaints().await, [""; 0]);
    });
}

#[test]
fn without_scripts_everything_is_shown_and_done() {
    run(async {
        let stage = stage(&Store::sqlite()).await;
        let browser = stage.visited_by(ROOT, WITHOUT_SCRIPTS).await;
        browser.clicks("a[href='/console/subscriptions?state=failing']").await;
        browser.reads_in_time("main", "the database is away").await;
        browser.clicks("a.row").await;
        browser.reads("h1", "Subscription orders").await;
        // What cannot be undone says so before it is done.
        browser.clicks("main .acts .confirmed summary").await;
        browser.reads(".confirmed[open]", "dead letters").await;
        browser.clicks(".confirmed[open] button").await;
        browser.reads(".notice.done", "skipped").await;
        browser.clicks("form[action$='/pause'] button").await;
        browser.reads(".notice.done", "Paused").await;
        // It is said once.
        browser.goes(&stage.url(&browser.path().await)).await;
        assert!(!browser.has(".notice.done").await);
        browser.clicks("form[action$='/resume'] button").await;
        browser.reads(".notice.done", "Resumed").await;
        browser.clicks("nav a[href='/console/journal']").await;
        browser.clicks("#failed option[value=true]").await;
        browser.clicks(".filters button").await;
        browser.reads_in_time("main table", "503").await;
        browser.clicks("nav a[href='/console/calls']").await;
        browser.clicks("a[href='/console/calls/new']").await;
        browser.writes("#url", &format!("{}/by-form", stage.others.url())).await;
        browser.writes("#body", r#"{"by":"form"}"#).await;
        browser.clicks("button.primary").await;
        browser.reads(".notice.done", "accepted").await;
        stage
            .others
            .until("the call is made", |all| all.iter().any(|one| one.path.ends_with("/by-form")))
            .await;
        browser.clicks(".account button").await;
        browser.arrives("/console/sign-in?signed_out=1").await;
        browser.reads(".notice.done", "signed out").await;
    });
}

#[test]
fn a_page_follows_what_happens_and_ends_with_the_token() {
    run(async {
        let stage = stage(&Store::sqlite()).await;
        let root = stage.server.client(ROOT);
        let made =
            root.post("/api_tokens", json!({"name": "watcher"}).to_string()).await.expect(201);
        let token = made.json()["token"].as_str().unwrap().to_owned();
        let watcher = stage.server.client(&token);
        watcher.subscribes(&stage.events, &["bookings"], json!({"timeout": 0})).await;
        let browser = stage.visited_by(&token, Look::WIDE).await;
        browser.goes(&stage.url("/console/live")).await;
        browser.reads(".follows", "following").await;
        browser.reads("#live-list", "Nothing has passed").await;
        stage.server.client("demo").publish("bookings", &event(70)).await.expect(204);
        browser.reads("#live-list", "batch").await;
        // Held, it stays as it is.
        browser.clicks("[data-hold]").await;
        let count = "return document.querySelectorAll('#live-list a.row').length";
        let before = browser.runs(count).await;
        stage.server.client("demo").publish("bookings", &event(71)).await.expect(204);
        stage
            .events
            .until("it has arrived", |all| {
                all.iter().filter(|one| one.numbers().contains(&71)).count() >= 2
            })
            .await;
        tokio::time::sleep(Duration::from_secs(2)).await;
        assert_eq!(browser.runs(count).await, before, "what is held does not move");
        browser.clicks("[data-hold]").await;
        stage.server.client("demo").publish("bookings", &event(72)).await.expect(204);
        eventually("it goes on", async || (browser.runs(count).await != before).then_some(()))
            .await;
        // The bus has another notion of who may look, and so has the page.
        root.delete(&format!("/api_tokens/{token}")).await.expect(204);
        browser.arrives("/console/sign-in?then=/console/live").await;
    });
}

#[test]
fn nothing_runs_that_others_have_written() {
    const HOSTILE: &str = "\"'><script>window.ran=1</script><img src=x onerror=window.ran=2><a href=javascript:window.ran=3>";
    run(async {
        let stage = stage(&Store::sqlite()).await;
        let demo = stage.server.client("demo");
        stage.bad.answer(Answer::Text(500, HOSTILE.into()));
        let mut hostile = event(80);
        hostile["data"] = json!({ HOSTILE: [HOSTILE, "</code></pre>"] });
        demo.publish("bookings", &hostile).await.expect(204);
        let call = json!({
            "url": format!("{}/x", stage.bad.url()), "requeue": true, "body": json!({"x": HOSTILE}).to_string(),
            "headers": {"x-hostile": HOSTILE},
        });
        demo.post("/calls", call.to_string()).await.expect(202);
        let message =
            json!({"topic": "payments", "payload": {"x": HOSTILE}, "attributes": {"a": HOSTILE}});
        demo.post("/api/messages", message.to_string()).await.expect(201);
        let browser = stage.visited_by(ROOT, Look::WIDE).await;
        browser.goes(&stage.url("/console/journal")).await;
        browser.reads("#live-list", "500").await;
        let pages = all_pages(&browser, &stage).await;
        browser.complaints().await;
        for page in &pages {
            browser.goes(&stage.url(page)).await;
            assert_eq!(browser.runs("return window.ran ?? null").await, Value::Null, "{page}");
            let complaints = browser.complaints().await;
            let complaints: Vec<_> =
                complaints.iter().filter(|line| !line.contains("/console/nowhere")).collect();
            assert!(complaints.is_empty(), "{page}: {complaints:#?}");
        }
    });
}

/// The pictures of docs/console.md: what each shows, and how.
const PICTURES: [(&str, &str, Look); 5] = [
    ("overview", "/console", PICTURE),
    ("subscription", "", PICTURE),
    ("attempt", "/console/journal?failed=true&kind=call", PICTURE),
    ("live-dark", "/console/live", Look { is_dark: true, ..PICTURE }),
    ("narrow", "/console/subscriptions", Look { is_dark: false, ..NARROW }),
];
/// The largest that one may be, in bytes: they are loaded with a page.
const PICTURE_MAX: u64 = 160_000;

/// `UPDATE_DOCS=1 cargo test --test browser -- pictures` makes them anew.
#[test]
fn the_pictures_of_the_documentation_are_there_and_small() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/console");
    if std::env::var_os("UPDATE_DOCS").is_some() {
        run(async {
            let stage = stage(&Store::sqlite()).await;
            let browser = stage.visited_by(ROOT, Look::WIDE).await;
            std::fs::create_dir_all(&directory).unwrap();
            for (name, path, look) in PICTURES {
                browser.looks(look).await;
                browser
                    .goes(&stage.url(if path.is_empty() { "/console/subscriptions" } else { path }))
                    .await;
                if matches!(name, "subscription" | "attempt") {
                    browser.clicks("main a.row").await;
                    browser
                        .reads("h1", if name == "attempt" { "Attempt" } else { "Subscription" })
                        .await;
                }
                // The charts have something to show once it was counted.
                tokio::time::sleep(Duration::from_secs(12)).await;
                std::fs::write(directory.join(format!("{name}.png")), browser.picture().await)
                    .unwrap();
            }
        });
    }
    let page = std::fs::read_to_string(directory.with_extension("md")).unwrap();
    for (name, ..) in PICTURES {
        let path = directory.join(format!("{name}.png"));
        let picture =
            std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        assert!(
            picture.starts_with(b"\x89PNG") && picture.len() as u64 <= PICTURE_MAX,
            "{name}: {}",
            picture.len()
        );
        assert!(page.contains(&format!("console/{name}.png")), "docs/console.md shows {name}");
    }
}
