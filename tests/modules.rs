//! The modules of psentry-block have an order: each uses only those below it, so that each can be read, and tested, without those
//! that use it. Within a folder of `tools/block` files belong together, and may use each other.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

/// Which modules each one uses.
type Graph = BTreeMap<String, BTreeSet<String>>;

/// What lies above all modules: it names them, and none of them uses it but for what it names again.
const ROOTS: [&str; 2] = ["lib", "main"];

/// Items of modules that the root names again.
const NAMED_AGAIN: [(&str, &str); 1] = [("Error", "error")];

fn read(module: &str, path: &Path, graph: &mut Graph) {
    if path.is_dir() {
        for entry in fs::read_dir(path).unwrap() {
            read(module, &entry.unwrap().path(), graph);
        }
        return;
    }
    let text = fs::read_to_string(path).unwrap();
    let text = text.split("#[cfg(test)]\nmod tests").next().unwrap();
    let code: Vec<&str> = text.lines().filter(|line| !line.trim_start().starts_with("//")).collect();
    let used = graph.entry(module.to_owned()).or_default();
    used.extend(code.join("\n").split("crate::").skip(1).flat_map(names).filter(|name| name != module));
}

/// The modules that what follows `crate::` names: one, or the first of each path in braces.
fn names(path: &str) -> Vec<String> {
    let list = path.strip_prefix('{').map(|list| list.split_once('}').map_or(list, |(list, _)| list));
    let paths: Vec<&str> = list.map_or_else(|| vec![path], |list| list.split(',').collect());
    let first = |path: &str| -> String {
        let word = |c: &char| c.is_alphanumeric() || *c == '_';
        let name: String = path.trim_start().chars().take_while(word).collect();
        let again = NAMED_AGAIN.iter().find(|(item, _)| *item == name);
        again.map_or(name, |(_, module)| (*module).to_owned())
    };
    paths.into_iter().map(first).collect()
}

/// The modules of a circle, the first one once more at the end; `None`: there is none.
fn circle(graph: &Graph) -> Option<Vec<String>> {
    let mut rest = graph.clone();
    // Whatever uses nothing that is left is below the rest.
    while let Some(lowest) = rest.iter().find(|(_, used)| !used.iter().any(|name| rest.contains_key(name))) {
        let lowest = lowest.0.clone();
        rest.remove(&lowest);
    }
    let mut path = vec![rest.keys().next()?.clone()];
    loop {
        let next = rest[path.last()?].iter().find(|name| rest.contains_key(*name))?.clone();
        let seen = path.iter().position(|name| *name == next);
        path.push(next);
        if let Some(begin) = seen {
            return Some(path.split_off(begin));
        }
    }
}

#[test]
fn no_module_of_psentry_block_uses_one_that_uses_it() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tools/block");
    let mut graph = Graph::new();
    for entry in fs::read_dir(&directory).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_stem().unwrap().to_str().unwrap();
        if (path.is_dir() || path.extension().is_some_and(|ext| ext == "rs")) && !ROOTS.contains(&name) {
            read(name, &path, &mut graph);
        }
    }
    assert!(graph["engine"].contains("reconcile") && graph.len() > 10, "nothing was read: {graph:?}");
    if let Some(circle) = circle(&graph) {
        panic!("these modules of tools/block use each other in a circle: {}", circle.join(" -> "));
    }
}

#[test]
fn a_circle_is_found_and_named() {
    let used = |text: &str| names(text).into_iter().collect::<BTreeSet<String>>();
    let graph = |pairs: &[(&str, &str)]| -> Graph {
        pairs.iter().map(|(module, text)| ((*module).to_owned(), used(text))).collect()
    };
    let tower = [("a", "{b::X, c}"), ("b", "c::{self, Y}"), ("c", "Error")];
    assert_eq!(circle(&graph(&tower)), None);
    let ring = [("a", "{b::X, c}"), ("b", "c::Y"), ("c", "d"), ("d", "b::Z"), ("e", "a")];
    assert_eq!(circle(&graph(&ring)).unwrap().join(" "), "b c d b");
}
