//! The API's description of itself, the OpenAPI document, and whether what happens agrees with it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, OnceLock};

use jsonschema::Validator;
use reqwest::Method;
use serde_json::{Value, json};

use super::client::Reply;

pub struct Description {
    pub document: Value,
    /// The named schemas, closed: what they do not name is not there.
    components: Value,
    validators: Mutex<HashMap<String, Arc<Validator>>>,
}

/// The description that this version of the bus has of itself.
pub fn description() -> &'static Description {
    static DESCRIPTION: OnceLock<Description> = OnceLock::new();
    DESCRIPTION.get_or_init(|| {
        let document = routemaster::api::openapi_document().expect("it can be written");
        let document: Value = serde_json::from_str(&document).expect("it is JSON");
        let mut components = document["components"].clone();
        let schemas = components["schemas"].as_object_mut().expect("named schemas");
        schemas.values_mut().for_each(close);
        Description { document, components, validators: Mutex::default() }
    })
}

/// An answer may grow fields that old clients do not know, so the document leaves its schemas
/// open; but it must name all that there are.
fn close(schema: &mut Value) {
    if schema["type"] == "object" {
        let schema = schema.as_object_mut().expect("a schema");
        schema.entry("additionalProperties").or_insert(Value::Bool(false));
    }
}

impl Description {
    /// Each described operation: its method in lower case, its path, and what it says.
    pub fn operations(&self) -> impl Iterator<Item = (&str, &str, &Value)> {
        let paths = self.document["paths"].as_object().expect("paths").iter();
        paths.flat_map(|(path, item)| {
            let operations = item.as_object().expect("operations").iter();
            operations.map(move |(method, operation)| (method.as_str(), path.as_str(), operation))
        })
    }

    /// The described path that a request's path belongs to.
    pub fn path_of(&self, path: &str) -> Option<&str> {
        let path = path.split('?').next().unwrap_or_default();
        let parts: Vec<&str> = path.split('/').collect();
        let fits = |described: &&String| {
            let described: Vec<&str> = described.split('/').collect();
            let mut pairs = described.iter().zip(&parts);
            let same = |(one, part): (&&str, &&str)| {
                if one.starts_with('{') { !part.is_empty() } else { one == part }
            };
            described.len() == parts.len() && pairs.all(same)
        };
        self.document["paths"].as_object()?.keys().find(fits).map(String::as_str)
    }

    /// Follows a reference, if it is one.
    pub fn resolve<'a>(&'a self, value: &'a Value) -> &'a Value {
        let Some(reference) = value["$ref"].as_str() else { return value };
        let target = reference.strip_prefix('#').and_then(|at| self.document.pointer(at));
        target.unwrap_or_else(|| panic!("{reference} leads nowhere"))
    }

    /// Why a value is not what a schema of the document says; `None` if it is.
    pub fn objection(&self, schema: &Value, value: &Value) -> Option<String> {
        let validator = self.validator(schema);
        let mut errors = validator.iter_errors(value);
        errors.next().map(|error| format!("{error}, at `{}`", error.instance_path()))
    }

    fn validator(&self, schema: &Value) -> Arc<Validator> {
        let mut validators = self.validators.lock().unwrap();
        let validator = validators.entry(schema.to_string()).or_insert_with(|| {
            let whole = json!({"allOf": [schema], "components": self.components});
            Arc::new(jsonschema::draft202012::new(&whole).expect("a schema"))
        });
        validator.clone()
    }

    /// Requires that an answer is one of those that the document describes for its request. What is
    /// not described must not be there.
    pub fn check(&self, method: &Method, path: &str, reply: &Reply) {
        let Some(described) = self.path_of(path) else {
            let absent = [404, 308].contains(&reply.status);
            assert!(absent, "{method} {path} is not described, but there: {reply:?}");
            return;
        };
        let head = *method == Method::HEAD;
        let name = if head { "get".to_owned() } else { method.as_str().to_lowercase() };
        let operation = &self.document["paths"][described][&name];
        if operation.is_null() {
            let absent = [405, 308].contains(&reply.status);
            assert!(absent, "{method} {described} is not described, but there: {reply:?}");
            return;
        }
        let response = &operation["responses"][reply.status.to_string()];
        assert!(!response.is_null(), "{method} {described} is not described to answer {reply:?}");
        if let Some(objection) = self.objection_to(self.resolve(response), reply, head) {
            panic!("{method} {described} is described otherwise: {objection}: {reply:?}");
        }
    }

    fn objection_to(&self, response: &Value, reply: &Reply, head: bool) -> Option<String> {
        let headers = response["headers"].as_object().into_iter().flatten();
        for (name, header) in headers {
            let Some(value) = reply.header(name) else {
                return Some(format!("there is no {name}"));
            };
            let schema = &self.resolve(header)["schema"];
            let number = value.parse::<u64>().map(Value::from).ok();
            let value = number.filter(|_| schema["type"] == "integer");
            let value = value.unwrap_or_else(|| reply.header(name).into());
            if let Some(objection) = self.objection(schema, &value) {
                return Some(format!("{name}: {objection}"));
            }
        }
        let content = response["content"].as_object();
        let content_type = reply.header("content-type").unwrap_or_default();
        let media = content_type.split(';').next().unwrap_or_default();
        match content.map(|content| content.get(media)) {
            None if reply.body.is_empty() => None,
            None => Some("there is a body".into()),
            Some(None) => Some(format!("it is `{media}`")),
            Some(Some(_)) if head => None,
            Some(Some(content)) => {
                let body = match media {
                    "application/json" => reply.json(),
                    _ => Value::String(reply.body.clone()),
                };
                self.objection(&content["schema"], &body)
            }
        }
    }
}
