//! The tree that a file of strfry's becomes, each value with the place where it was written.

use std::fmt;

/// A line and a column, both counted from 1, the column in characters.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Position {
    /// The line.
    pub line: usize,
    /// The column.
    pub column: usize,
}

/// A value, and where it stands.
#[derive(Clone, PartialEq, Debug)]
pub struct Node {
    /// Where it begins; for a member, where its name was last assigned or added to.
    pub place: Position,
    /// The value.
    pub value: Value,
    /// For a member that was assigned, or an object that was opened, although there was one: where that one stands, and
    /// where this one does.
    pub twice: Option<(Position, Position)>,
}

/// The members of an object, in the order in which they were first named.
pub type Members = Vec<(String, Node)>;

/// A value.
#[derive(Clone, PartialEq, Debug)]
pub enum Value {
    /// `null`.
    Null,
    /// `true` or `false`.
    Bool(bool),
    /// A whole number; wide enough for the signed and the unsigned ones of 64 bits.
    Integer(i128),
    /// Any other number.
    Float(f64),
    /// A string.
    Text(String),
    /// An array.
    List(Vec<Node>),
    /// An object.
    Object(Members),
}

impl Value {
    /// What it is, for errors.
    pub(super) const fn kind(&self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Bool(_) => "true or false",
            Self::Integer(_) | Self::Float(_) => "a number",
            Self::Text(_) => "a string",
            Self::List(_) => "an array",
            Self::Object(_) => "an object",
        }
    }

    /// `self + other`: numbers are added, strings and arrays joined, members of the second object replace those of the
    /// first. `None` for values that cannot be added.
    pub(super) fn plus(self, other: Self) -> Option<Self> {
        Some(match (self, other) {
            (Self::Integer(one), Self::Integer(two)) => Self::Integer(one.checked_add(two)?),
            (Self::Float(one), Self::Float(two)) => Self::Float(one + two),
            (Self::Text(one), Self::Text(two)) => Self::Text(one + &two),
            (Self::List(one), Self::List(two)) => Self::List([one, two].concat()),
            (Self::Object(mut one), Self::Object(two)) => {
                two.into_iter().for_each(|(name, node)| set(&mut one, &name, node));
                Self::Object(one)
            }
            _ => return None,
        })
    }
}

/// Sets a member, which keeps its rank if it exists.
pub(super) fn set(members: &mut Members, name: &str, node: Node) {
    match members.iter_mut().find(|(own, _)| own == name) {
        Some((_, old)) => {
            let twice = Some((old.place, node.place));
            *old = Node { twice, ..node };
        }
        None => members.push((name.into(), node)),
    }
}

impl Node {
    /// The value with this dotted name, if there is one and it is not an object.
    #[must_use]
    pub fn get(&self, path: &str) -> Option<&Value> {
        self.leaves().into_iter().find(|(own, _)| own == path).map(|(_, node)| &node.value)
    }

    /// Every value that is not an object, with its dotted name, in the order of the file.
    #[must_use]
    pub fn leaves(&self) -> Vec<(String, &Self)> {
        let mut leaves = Vec::new();
        self.collect("", &mut leaves);
        leaves
    }

    fn collect<'a>(&'a self, path: &str, leaves: &mut Vec<(String, &'a Self)>) {
        let Value::Object(members) = &self.value else {
            return leaves.push((path.into(), self));
        };
        for (name, node) in members {
            let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
            node.collect(&path, leaves);
        }
    }
}

impl fmt::Display for Value {
    /// As JSON, which strfry reads too.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Null => f.write_str("null"),
            Self::Bool(value) => value.fmt(f),
            Self::Integer(value) => value.fmt(f),
            Self::Float(value) => value.fmt(f),
            Self::Text(text) => f.write_str(&serde_json::Value::from(text.as_str()).to_string()),
            Self::List(nodes) => {
                f.write_str("[")?;
                for (n, node) in nodes.iter().enumerate() {
                    write!(f, "{}{}", if n > 0 { ", " } else { "" }, node.value)?;
                }
                f.write_str("]")
            }
            Self::Object(members) => {
                f.write_str("{")?;
                for (n, (name, node)) in members.iter().enumerate() {
                    let name = serde_json::Value::from(name.as_str());
                    write!(f, "{}{name}: {}", if n > 0 { ", " } else { "" }, node.value)?;
                }
                f.write_str("}")
            }
        }
    }
}
