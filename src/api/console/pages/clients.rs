//! Clients as pages name them: by name where people read, by an id in addresses.

use std::collections::{HashMap, HashSet};

use crate::api::console::problem::Problem;
use crate::api::console::visit::Visit;
use crate::bus::token::{ClientToken, PSEUDO_CLIENTS};
use crate::http::authentication::Caller;

/// What a client is called, whether the API told its token or only its name.
pub fn name(visit: &Visit, told: &str) -> String {
    let authentication = &visit.console.api.authentication;
    match ClientToken::parse(told).map(|token| authentication.tokens.client_of(&token)) {
        Ok(client) if visit.is_root() || is_own(visit, &client) => authentication.name_of(&client),
        _ => told.to_owned(),
    }
}

/// What clients are called that somewhere stand by the beginning of their token, because nothing of it says a name.
pub struct LabelNames(HashMap<String, String>);

impl LabelNames {
    /// Those of these labels: where only one client is allowed whose token begins so.
    pub fn of<'a>(visit: &Visit, labels: impl IntoIterator<Item = &'a str>) -> Self {
        let cut = labels.into_iter().filter(|label| label.ends_with('…')).collect::<HashSet<_>>();
        if cut.is_empty() { Self(HashMap::new()) } else { Self(names_of(visit, &cut)) }
    }

    /// The name, or the label where there is none.
    pub fn name<'a>(&'a self, label: &'a str) -> &'a str {
        self.0.get(label).map_or(label, String::as_str)
    }
}

fn names_of(visit: &Visit, cut: &HashSet<&str>) -> HashMap<String, String> {
    let authentication = &visit.console.api.authentication;
    let mut names = HashMap::<String, Option<String>>::new();
    for client in authentication.tokens.clients() {
        let label = client.label();
        if cut.contains(&*label) {
            let name = authentication.name_of(&client);
            let known = names.entry(label).or_insert_with(|| Some(name.clone()));
            // Several that begin so have no name here.
            *known = known.take().filter(|known| *known == name);
        }
    }
    names.into_iter().filter_map(|(label, name)| Some((label, name?))).collect()
}

/// The id of a client that the API told as a token, which it does to whoever may do something with what is its.
pub fn id(visit: &Visit, told: &str) -> Option<String> {
    let pseudo = PSEUDO_CLIENTS.contains(&told).then(|| ClientToken::from_stored(told));
    let token = pseudo.or_else(|| ClientToken::parse(told).ok())?;
    // Told is the token that it has now.
    Some(visit.console.api.authentication.tokens.client_of(&token).short_hash())
}

/// Who has this id.
///
/// # Errors
/// If it is nobody that is known.
pub async fn of_id(visit: &Visit, id: &str) -> Result<ClientToken, Problem> {
    if let Caller::Client(own) = &visit.session.caller
        && own.short_hash() == id
    {
        return Ok(own.clone());
    }
    let overall = visit.console.board.look().await?;
    if let Some(status) = overall.subscription(id) {
        return Ok(status.subscriber.clone());
    }
    let pseudo = PSEUDO_CLIENTS.iter().map(|name| ClientToken::from_stored(name));
    let all = visit.console.api.authentication.tokens.clients().into_iter().chain(pseudo);
    let mut found = all.filter(|client| client.short_hash() == id);
    found.next().ok_or_else(|| Problem::not_found("There is no such client any more."))
}

/// Whose things the address asks for, by name or id.
///
/// # Errors
/// If nobody or more than one client is called so.
pub async fn asked(visit: &Visit) -> Result<Option<ClientToken>, Problem> {
    named(visit, &visit.asked("client").unwrap_or_default()).await
}

/// The client of this name or id; `None` without one.
///
/// # Errors
/// If nobody or more than one client is called so.
pub async fn named(visit: &Visit, asked: &str) -> Result<Option<ClientToken>, Problem> {
    if asked.is_empty() {
        return Ok(None);
    }
    let mut found = called(visit, asked).await?;
    match found.len() {
        0 => Err(Problem::bad_request(format!("Nobody is called “{asked}”."))),
        1 => Ok(found.pop()),
        _ => Err(Problem::bad_request(format!("Several clients are called “{asked}”."))),
    }
}

/// All clients of this name, or with this id, that are known; to a client, it alone.
///
/// # Errors
/// If the store cannot be asked.
pub async fn called(visit: &Visit, name: &str) -> Result<Vec<ClientToken>, Problem> {
    let authentication = &visit.console.api.authentication;
    let all: Vec<ClientToken> = match &visit.session.caller {
        Caller::Client(own) => vec![own.clone()],
        _ => {
            let overall = visit.console.board.look().await?;
            let subscribers = overall.subscriptions.iter().map(|status| status.subscriber.clone());
            let pseudo = PSEUDO_CLIENTS.iter().map(|name| ClientToken::from_stored(name));
            authentication.tokens.clients().into_iter().chain(subscribers).chain(pseudo).collect()
        }
    };
    let that = |is_it: &dyn Fn(&ClientToken) -> bool| {
        let mut found: Vec<_> = all.iter().filter(|client| is_it(client)).cloned().collect();
        found.sort_by(|one, other| one.reveal().cmp(other.reveal()));
        found.dedup();
        found
    };
    let found = that(&|client| authentication.name_of(client) == name);
    if !found.is_empty() {
        return Ok(found);
    }
    let is_id = name.len() == 24 && name.bytes().all(|byte| byte.is_ascii_hexdigit());
    // Of a token without a name, the journal has the beginning.
    Ok(that(&|client| if is_id { client.short_hash() == name } else { client.label() == name }))
}

/// What names a client to the API, for root; a client needs to name nobody.
pub fn parameter<'a>(visit: &Visit, client: &'a ClientToken) -> Option<&'a str> {
    visit.is_root().then(|| client.reveal())
}

fn is_own(visit: &Visit, client: &ClientToken) -> bool {
    matches!(&visit.session.caller, Caller::Client(own) if own == client)
}
