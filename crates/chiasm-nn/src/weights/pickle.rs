//! Python's pickle, as far as tables of tensors need it, and without ever running what a pickle asks to run.
//!
//! # Reference
//! The comments of `Lib/pickletools.py` in CPython, protocols 2 to 5; the names and arguments that tensors are stored by: `torch/_utils.py`
//! and `torch/serialization.py` of PyTorch 2.15.
//!
//! # Model
//! A pickle is a program for a machine with a stack and a memo. Its instructions make numbers, strings, tuples, lists and
//! dicts; `GLOBAL` names a function or class of Python and `REDUCE` calls it, which is how a file can run anything. Here a
//! `GLOBAL` is one of the few in [`global`] and stands for a case of [`Machine::call`], which only builds descriptions; any
//! other ends the reading with its name. Some types that training leaves beside the weights (arrays of NumPy, sets) are known
//! by name and read as [`Value::Inert`]: nothing is made of them.
//!
//! # Cost
//! Containers are made once and then meant by number, so a list of lists of lists costs what its instructions cost, however
//! large it would print. Time and memory grow with the pickle's length, which has a limit as all that is counted has.

use std::collections::{BTreeMap, HashMap};

use safetensors::tensor::Dtype;

/// Bytes of a pickle: a tensor takes about 200, so this is room for a hundred thousand of them and their optimiser.
pub(super) const PICKLE_LEN_MAX: usize = 1 << 25;
/// Values on the stack. Python's picklers put at most a thousand items of a container there at a time.
const STACK_LEN_MAX: usize = 1 << 16;
/// Containers, storages and tensors together, entries of the memo, and entries of all containers.
const N_VALUES_MAX: usize = 1 << 21;
/// Tensors, those of the optimiser included.
const N_TENSORS_MAX: usize = 1 << 17;
/// Dimensions of a tensor; the weights of a three-dimensional convolution have five.
const N_DIMS_MAX: usize = 16;

/// Why a pickle was refused.
#[derive(Debug)]
pub(super) enum PickleError {
    /// It names something that is no part of plain weights.
    Code(String),
    /// It is cut, altered, or of a kind that no table of tensors needs.
    Damaged(String),
}

/// What stands on the stack; `Node` is the place of a container.
#[derive(Clone, Copy, Debug)]
pub(super) enum Value<'a> {
    None,
    Bool(bool),
    Int(i64),
    /// An integer of more than eight bytes, little-endian.
    Long(&'a [u8]),
    Str(&'a str),
    Global(Global),
    Node(usize),
    /// Anything whose value no weight depends on.
    Inert,
}

#[derive(Debug)]
pub(super) enum Node<'a> {
    Tuple(Vec<Value<'a>>),
    List(Vec<Value<'a>>),
    Dict(Vec<(Value<'a>, Value<'a>)>),
    Storage(Storage<'a>),
    Tensor(Tensor<'a>),
}

/// Numbers of one type that stand elsewhere in the file, under a key.
#[derive(Clone, Copy, Debug)]
pub(super) struct Storage<'a> {
    pub(super) dtype: Dtype,
    pub(super) key: &'a str,
    pub(super) n: usize,
}

/// A view of a storage, not yet checked against its size.
#[derive(Debug)]
pub(super) struct Tensor<'a> {
    pub(super) storage: Storage<'a>,
    pub(super) offset: usize,
    pub(super) shape: Vec<usize>,
    pub(super) strides: Vec<usize>,
}

/// A function or class that a pickle may name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Global {
    OrderedDict,
    Storage(Dtype),
    RebuildTensor,
    RebuildParameter,
    Size,
    Inert,
}

/// Values that stand for nothing here: they are read, to come to what follows them, and dropped.
const INERT: &[(&str, &str)] = &[
    ("argparse", "Namespace"),
    ("collections", "Counter"),
    ("collections", "defaultdict"),
    ("builtins", "bytearray"),
    ("builtins", "complex"),
    ("builtins", "dict"),
    ("builtins", "set"),
    ("__builtin__", "bytearray"),
    ("__builtin__", "complex"),
    ("__builtin__", "dict"),
    ("__builtin__", "set"),
    ("_codecs", "encode"),
    ("numpy", "dtype"),
    ("numpy", "ndarray"),
    ("numpy.core.multiarray", "_reconstruct"),
    ("numpy.core.multiarray", "scalar"),
    ("numpy._core.multiarray", "_reconstruct"),
    ("numpy._core.multiarray", "scalar"),
    ("torch", "device"),
    ("torch", "bfloat16"),
    ("torch", "bool"),
    ("torch", "float16"),
    ("torch", "float32"),
    ("torch", "float64"),
    ("torch", "int16"),
    ("torch", "int32"),
    ("torch", "int64"),
    ("torch", "int8"),
    ("torch", "uint8"),
];

fn global(module: &str, name: &str) -> Result<Global, PickleError> {
    let storage = |dtype| Ok(Global::Storage(dtype));
    match (module, name) {
        ("collections", "OrderedDict") => Ok(Global::OrderedDict),
        ("torch._utils", "_rebuild_tensor" | "_rebuild_tensor_v2") => Ok(Global::RebuildTensor),
        ("torch._utils", "_rebuild_parameter" | "_rebuild_parameter_with_state") => Ok(Global::RebuildParameter),
        ("torch", "Size") => Ok(Global::Size),
        ("torch", "DoubleStorage") => storage(Dtype::F64),
        ("torch", "FloatStorage") => storage(Dtype::F32),
        ("torch", "HalfStorage") => storage(Dtype::F16),
        ("torch", "BFloat16Storage") => storage(Dtype::BF16),
        ("torch", "LongStorage") => storage(Dtype::I64),
        ("torch", "IntStorage") => storage(Dtype::I32),
        ("torch", "ShortStorage") => storage(Dtype::I16),
        ("torch", "CharStorage") => storage(Dtype::I8),
        ("torch", "ByteStorage") => storage(Dtype::U8),
        ("torch", "BoolStorage") => storage(Dtype::BOOL),
        _ if INERT.contains(&(module, name)) => Ok(Global::Inert),
        _ => Err(PickleError::Code(format!("{module}.{name}"))),
    }
}

/// A pickle that has been read.
pub(super) struct Pickle<'a> {
    pub(super) root: Value<'a>,
    pub(super) nodes: Vec<Node<'a>>,
    /// Bytes it took, the rest is not its.
    pub(super) len: usize,
}

/// Keys under which training scripts keep the table of weights beside other things.
const WRAPPERS: [&str; 5] = ["state_dict", "model", "model_state_dict", "model_state", "learnable"];

impl<'a> Pickle<'a> {
    /// The table of tensors: the root, or the one that it holds under one of the usual keys. Numbers, strings and the like
    /// beside the tensors are passed over; a container is refused, for tensors may be in it.
    pub(super) fn state_dict(&self) -> Result<BTreeMap<&'a str, &Tensor<'a>>, PickleError> {
        let root = self.dict(self.root).ok_or_else(|| damaged("it holds no table of tensors"))?;
        let is_wrapper = |key: &Value| matches!(key, Value::Str(key) if WRAPPERS.contains(key));
        let mut inner = root.iter().filter(|(key, _)| is_wrapper(key)).filter_map(|(_, value)| self.dict(*value));
        let table = match (inner.next(), inner.next()) {
            (Some(table), None) => table,
            (None, _) => root,
            (Some(_), Some(_)) => {
                return Err(damaged(format!("it holds more than one table under the keys {}", WRAPPERS.join(", "))));
            }
        };
        let mut tensors = BTreeMap::new();
        for (key, value) in table {
            let Value::Str(name) = key else {
                return Err(damaged("its table has a key that is no name of a tensor"));
            };
            let Some(node) = node(&self.nodes, *value) else { continue };
            let Node::Tensor(tensor) = node else {
                return Err(damaged(format!("`{name}` is no tensor")));
            };
            if tensors.insert(*name, tensor).is_some() {
                return Err(damaged(format!("its table has `{name}` twice")));
            }
        }
        Ok(tensors)
    }

    /// The entries of a dict.
    pub(super) fn dict(&self, value: Value) -> Option<&[(Value<'a>, Value<'a>)]> {
        if let Some(Node::Dict(entries)) = node(&self.nodes, value) { Some(entries) } else { None }
    }

    /// The items of a list.
    pub(super) fn list(&self, value: Value) -> Option<&[Value<'a>]> {
        if let Some(Node::List(items)) = node(&self.nodes, value) { Some(items) } else { None }
    }
}

/// Reads the pickle that `bytes` begin with.
pub(super) fn load(bytes: &[u8]) -> Result<Pickle<'_>, PickleError> {
    let mut machine = Machine {
        bytes: &bytes[..bytes.len().min(PICKLE_LEN_MAX)],
        at: 0,
        stack: Vec::new(),
        marks: Vec::new(),
        memo: HashMap::new(),
        nodes: Vec::new(),
        n_items: 0,
        n_tensors: 0,
    };
    let root = machine.run()?;
    Ok(Pickle { root, nodes: machine.nodes, len: machine.at })
}

struct Machine<'a> {
    bytes: &'a [u8],
    at: usize,
    stack: Vec<Value<'a>>,
    /// Lengths of the stack where marks stand; nothing below the last is in reach.
    marks: Vec<usize>,
    memo: HashMap<u32, Value<'a>>,
    nodes: Vec<Node<'a>>,
    n_items: usize,
    n_tensors: usize,
}

impl<'a> Machine<'a> {
    fn run(&mut self) -> Result<Value<'a>, PickleError> {
        loop {
            let at = self.at;
            let [op] = self.array()?;
            match op {
                // PROTO, FRAME, STOP
                0x80 => {
                    let [protocol] = self.array()?;
                    if protocol > 5 {
                        return Err(damaged(format!("pickled by protocol {protocol}, of which 2 to 5 are known")));
                    }
                }
                0x95 => drop(self.array::<8>()?),
                b'.' => return self.pop(),
                // MARK, POP, POP_MARK, DUP
                b'(' => {
                    // A mark takes as much room as a value.
                    if self.marks.len() >= STACK_LEN_MAX {
                        return Err(too_many("marks", STACK_LEN_MAX));
                    }
                    self.marks.push(self.stack.len());
                }
                b'0' => drop(self.pop()?),
                b'1' => drop(self.pop_to_mark()?),
                b'2' => self.push(self.top()?)?,
                // NONE, NEWTRUE, NEWFALSE
                b'N' => self.push(Value::None)?,
                0x88 => self.push(Value::Bool(true))?,
                0x89 => self.push(Value::Bool(false))?,
                // BININT, BININT1, BININT2, LONG1, LONG4, BINFLOAT
                b'J' => {
                    let value = i32::from_le_bytes(self.array()?);
                    self.push(Value::Int(i64::from(value)))?;
                }
                b'K' => {
                    let [value] = self.array()?;
                    self.push(Value::Int(i64::from(value)))?;
                }
                b'M' => {
                    let value = u16::from_le_bytes(self.array()?);
                    self.push(Value::Int(i64::from(value)))?;
                }
                0x8a => {
                    let digits = self.counted::<1>()?;
                    self.push(long(digits))?;
                }
                0x8b => {
                    let digits = self.counted::<4>()?;
                    self.push(long(digits))?;
                }
                b'G' => {
                    self.array::<8>()?;
                    self.push(Value::Inert)?;
                }
                // SHORT_BINUNICODE, BINUNICODE, BINUNICODE8 and, of Python 2, SHORT_BINSTRING, BINSTRING
                0x8c | b'U' => self.string::<1>(op == b'U')?,
                b'X' | b'T' => self.string::<4>(op == b'T')?,
                0x8d => self.string::<8>(false)?,
                // SHORT_BINBYTES, BINBYTES, BINBYTES8, BYTEARRAY8
                b'C' => {
                    self.counted::<1>()?;
                    self.push(Value::Inert)?;
                }
                b'B' => {
                    self.counted::<4>()?;
                    self.push(Value::Inert)?;
                }
                0x8e | 0x96 => {
                    self.counted::<8>()?;
                    self.push(Value::Inert)?;
                }
                // EMPTY_TUPLE, TUPLE1, TUPLE2, TUPLE3, TUPLE
                b')' => self.tuple(0)?,
                0x85 => self.tuple(1)?,
                0x86 => self.tuple(2)?,
                0x87 => self.tuple(3)?,
                b't' => {
                    let items = self.pop_to_mark()?;
                    self.push_node(Node::Tuple(items))?;
                }
                // EMPTY_LIST, APPEND, APPENDS, LIST
                b']' => self.push_node(Node::List(Vec::new()))?,
                b'a' => {
                    let item = self.pop()?;
                    self.append(vec![item])?;
                }
                b'e' => {
                    let items = self.pop_to_mark()?;
                    self.append(items)?;
                }
                b'l' => {
                    let items = self.pop_to_mark()?;
                    self.push_node(Node::List(items))?;
                }
                // EMPTY_DICT, SETITEM, SETITEMS, DICT
                b'}' => self.push_node(Node::Dict(Vec::new()))?,
                b's' => {
                    let value = self.pop()?;
                    let key = self.pop()?;
                    self.set(&[key, value])?;
                }
                b'u' => {
                    let items = self.pop_to_mark()?;
                    self.set(&items)?;
                }
                b'd' => {
                    let items = self.pop_to_mark()?;
                    self.push_node(Node::Dict(Vec::new()))?;
                    self.set(&items)?;
                }
                // EMPTY_SET, ADDITEMS, FROZENSET
                0x8f => self.push(Value::Inert)?,
                0x90 => {
                    let items = self.pop_to_mark()?;
                    self.append(items)?;
                }
                0x91 => {
                    self.pop_to_mark()?;
                    self.push(Value::Inert)?;
                }
                // BINGET, LONG_BINGET, BINPUT, LONG_BINPUT, MEMOIZE
                b'h' => {
                    let [place] = self.array()?;
                    self.recall(u32::from(place))?;
                }
                b'j' => {
                    let place = u32::from_le_bytes(self.array()?);
                    self.recall(place)?;
                }
                b'q' => {
                    let [place] = self.array()?;
                    self.keep(u32::from(place))?;
                }
                b'r' => {
                    let place = u32::from_le_bytes(self.array()?);
                    self.keep(place)?;
                }
                0x94 => self.keep(self.memo.len() as u32)?,
                // GLOBAL, STACK_GLOBAL, INST
                b'c' | b'i' => {
                    let (module, name) = (self.line()?, self.line()?);
                    let global = global(module, name)?;
                    if op == b'i' {
                        return Err(PickleError::Code(format!("{module}.{name}")));
                    }
                    self.push(Value::Global(global))?;
                }
                0x93 => {
                    let (name, module) = (self.pop()?, self.pop()?);
                    let (Value::Str(module), Value::Str(name)) = (module, name) else {
                        return Err(damaged(format!("the global at byte {at} of its pickle has no name")));
                    };
                    self.push(Value::Global(global(module, name)?))?;
                }
                // REDUCE, NEWOBJ, BUILD, BINPERSID
                b'R' | 0x81 => {
                    let (arguments, callee) = (self.pop()?, self.pop()?);
                    self.call(callee, arguments)?;
                }
                b'b' => {
                    self.pop()?;
                    // Attributes, as the versions of its modules that PyTorch keeps on a table; no weight depends on them.
                    let target = self.top()?;
                    let is_dict = matches!(node(&self.nodes, target), Some(Node::Dict(_)));
                    if !is_dict && !matches!(target, Value::Inert) {
                        return Err(damaged(format!("attributes at byte {at} of its pickle belong to nothing that has any")));
                    }
                }
                b'Q' => {
                    let id = self.pop()?;
                    self.storage(id)?;
                }
                other => {
                    return Err(damaged(format!("instruction {other:#04x} at byte {at} of its pickle, which no weights need")));
                }
            }
        }
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], PickleError> {
        let bytes = self.bytes[self.at..].first_chunk().ok_or_else(cut_off)?;
        self.at += N;
        Ok(*bytes)
    }

    /// As many bytes as the `N` bytes before them say.
    fn counted<const N: usize>(&mut self) -> Result<&'a [u8], PickleError> {
        let mut count = [0; 8];
        count[..N].copy_from_slice(&self.array::<N>()?);
        let end = usize::try_from(u64::from_le_bytes(count)).ok().and_then(|n| self.at.checked_add(n));
        let bytes = end.and_then(|end| self.bytes.get(self.at..end)).ok_or_else(cut_off)?;
        self.at += bytes.len();
        Ok(bytes)
    }

    /// A string; one of Python 2 may be bytes, which no weights need.
    fn string<const N: usize>(&mut self, may_be_bytes: bool) -> Result<(), PickleError> {
        let bytes = self.counted::<N>()?;
        let value = match std::str::from_utf8(bytes) {
            Ok(text) => Value::Str(text),
            Err(_) if may_be_bytes => Value::Inert,
            Err(_) => return Err(damaged("a string in its pickle is no UTF-8")),
        };
        self.push(value)
    }

    fn line(&mut self) -> Result<&'a str, PickleError> {
        let rest = &self.bytes[self.at..];
        let len = rest.iter().position(|b| *b == b'\n').ok_or_else(cut_off)?;
        self.at += len + 1;
        std::str::from_utf8(&rest[..len]).map_err(|_| damaged("a global in its pickle has a name that is no UTF-8"))
    }

    fn push(&mut self, value: Value<'a>) -> Result<(), PickleError> {
        if self.stack.len() >= STACK_LEN_MAX {
            return Err(too_many("values on the stack", STACK_LEN_MAX));
        }
        self.stack.push(value);
        Ok(())
    }

    fn push_node(&mut self, node: Node<'a>) -> Result<(), PickleError> {
        if self.nodes.len() >= N_VALUES_MAX {
            return Err(too_many("values", N_VALUES_MAX));
        }
        self.nodes.push(node);
        self.push(Value::Node(self.nodes.len() - 1))
    }

    fn top(&self) -> Result<Value<'a>, PickleError> {
        let reach = self.marks.last().copied().unwrap_or(0);
        self.stack[reach..].last().copied().ok_or_else(|| damaged("its pickle takes from an empty stack"))
    }

    fn pop(&mut self) -> Result<Value<'a>, PickleError> {
        let value = self.top()?;
        self.stack.pop();
        Ok(value)
    }

    fn pop_to_mark(&mut self) -> Result<Vec<Value<'a>>, PickleError> {
        let mark = self.marks.pop().ok_or_else(|| damaged("its pickle goes back to a mark that it has not set"))?;
        Ok(self.stack.split_off(mark))
    }

    fn recall(&mut self, place: u32) -> Result<(), PickleError> {
        let value = self.memo.get(&place).copied();
        self.push(value.ok_or_else(|| damaged(format!("its pickle recalls entry {place}, which it has not kept")))?)
    }

    fn keep(&mut self, place: u32) -> Result<(), PickleError> {
        if self.memo.len() >= N_VALUES_MAX {
            return Err(too_many("kept values", N_VALUES_MAX));
        }
        let value = self.top()?;
        self.memo.insert(place, value);
        Ok(())
    }

    fn tuple(&mut self, n: usize) -> Result<(), PickleError> {
        let mut items = (0..n).map(|_| self.pop()).collect::<Result<Vec<_>, _>>()?;
        items.reverse();
        self.push_node(Node::Tuple(items))
    }

    fn count_items(&mut self, n: usize) -> Result<(), PickleError> {
        self.n_items += n;
        if self.n_items > N_VALUES_MAX { Err(too_many("items", N_VALUES_MAX)) } else { Ok(()) }
    }

    fn append(&mut self, items: Vec<Value<'a>>) -> Result<(), PickleError> {
        self.count_items(items.len())?;
        let target = self.top()?;
        if let Value::Node(node) = target
            && let Node::List(list) = &mut self.nodes[node]
        {
            list.extend(items);
        } else if !matches!(target, Value::Inert) {
            return Err(damaged("its pickle appends to what is no list"));
        }
        Ok(())
    }

    /// Keys and values in turn.
    fn set(&mut self, items: &[Value<'a>]) -> Result<(), PickleError> {
        self.count_items(items.len())?;
        let (entries, []) = items.as_chunks::<2>() else {
            return Err(damaged("its pickle sets a key without a value"));
        };
        let target = self.top()?;
        if let Value::Node(node) = target
            && let Node::Dict(dict) = &mut self.nodes[node]
        {
            dict.extend(entries.iter().map(|[key, value]| (*key, *value)));
        } else if !matches!(target, Value::Inert) {
            return Err(damaged("its pickle sets an item of what is no dict"));
        }
        Ok(())
    }

    fn items(&self, value: Value) -> Option<&[Value<'a>]> {
        if let Some(Node::Tuple(items) | Node::List(items)) = node(&self.nodes, value) { Some(items) } else { None }
    }

    /// What Python would call: nothing here runs, a description is built.
    fn call(&mut self, callee: Value<'a>, arguments: Value<'a>) -> Result<(), PickleError> {
        let Some(arguments) = self.items(arguments) else {
            return Err(damaged("its pickle makes a call without arguments"));
        };
        let Value::Global(callee) = callee else {
            return Err(damaged("its pickle calls what is no function"));
        };
        match (callee, arguments) {
            (Global::Inert, _) => self.push(Value::Inert),
            (Global::OrderedDict, []) => self.push_node(Node::Dict(Vec::new())),
            // As Python 2 writes it: a list of pairs.
            (Global::OrderedDict, [pairs]) => {
                let mut entries = Vec::new();
                for pair in self.items(*pairs).ok_or_else(|| damaged("a dict in its pickle is made of no pairs"))? {
                    let Some([key, value]) = self.items(*pair) else {
                        return Err(damaged("a dict in its pickle is made of no pairs"));
                    };
                    entries.extend([*key, *value]);
                }
                self.push_node(Node::Dict(Vec::new()))?;
                self.set(&entries)
            }
            // The same tensor again, with flags for training.
            (Global::RebuildParameter, [data, ..]) => {
                let data = *data;
                let is_tensor = matches!(node(&self.nodes, data), Some(Node::Tensor(_)));
                if is_tensor { self.push(data) } else { Err(damaged("a parameter in its pickle is made of no tensor")) }
            }
            (Global::RebuildTensor, [storage, offset, shape, strides, rest @ ..]) => {
                let tensor = self.tensor([*storage, *offset, *shape, *strides], rest.get(2).copied());
                let tensor = tensor.ok_or_else(|| damaged("a tensor in its pickle is not described as PyTorch does"))?;
                self.n_tensors += 1;
                if self.n_tensors > N_TENSORS_MAX {
                    return Err(too_many("tensors", N_TENSORS_MAX));
                }
                self.push_node(Node::Tensor(tensor))
            }
            (Global::Size, [sizes]) if self.items(*sizes).is_some() => {
                let sizes = *sizes;
                self.push(sizes)
            }
            (Global::OrderedDict | Global::RebuildParameter | Global::RebuildTensor | Global::Size | Global::Storage(_), _) => {
                Err(damaged("its pickle makes a call with arguments that do not belong to it"))
            }
        }
    }

    /// `marks` say that the numbers are to be read conjugated or negated; no weights are stored so.
    fn tensor(&self, [storage, offset, shape, strides]: [Value<'a>; 4], marks: Option<Value<'a>>) -> Option<Tensor<'a>> {
        let Some(Node::Storage(storage)) = node(&self.nodes, storage) else { return None };
        let unmarked = match marks {
            None | Some(Value::None) => true,
            Some(marks) => matches!(node(&self.nodes, marks), Some(Node::Dict(marks)) if marks.is_empty()),
        };
        let (shape, strides) = (self.sizes(shape)?, self.sizes(strides)?);
        let fits = unmarked && shape.len() == strides.len();
        fits.then(|| count(offset).map(|offset| Tensor { storage: *storage, offset, shape, strides }))?
    }

    fn sizes(&self, value: Value) -> Option<Vec<usize>> {
        self.items(value).filter(|items| items.len() <= N_DIMS_MAX)?.iter().map(|size| count(*size)).collect()
    }

    /// `("storage", type, key, device, number of elements)`, and in the older layout what part of another one it is.
    fn storage(&mut self, id: Value<'a>) -> Result<(), PickleError> {
        let storage = match self.items(id) {
            Some(
                [Value::Str("storage"), Value::Global(Global::Storage(dtype)), Value::Str(key), _, n]
                | [Value::Str("storage"), Value::Global(Global::Storage(dtype)), Value::Str(key), _, n, Value::None],
            ) => count(*n).map(|n| Storage { dtype: *dtype, key, n }),
            _ => None,
        };
        let storage = storage.ok_or_else(|| damaged("its pickle refers to something else than stored numbers"))?;
        self.push_node(Node::Storage(storage))
    }
}

fn node<'n, 'a>(nodes: &'n [Node<'a>], value: Value) -> Option<&'n Node<'a>> {
    if let Value::Node(node) = value { Some(&nodes[node]) } else { None }
}

fn count(value: Value) -> Option<usize> {
    if let Value::Int(n) = value { usize::try_from(n).ok() } else { None }
}

/// Two's complement, little-endian, of any length.
fn long(digits: &[u8]) -> Value<'_> {
    if digits.len() > 8 {
        return Value::Long(digits);
    }
    let negative = digits.last().is_some_and(|d| d & 0x80 != 0);
    let mut bytes = [if negative { 0xff } else { 0 }; 8];
    bytes[..digits.len()].copy_from_slice(digits);
    Value::Int(i64::from_le_bytes(bytes))
}

fn damaged(reason: impl Into<String>) -> PickleError {
    PickleError::Damaged(reason.into())
}

fn too_many(what: &str, max: usize) -> PickleError {
    damaged(format!("its pickle has more than {max} {what}"))
}

fn cut_off() -> PickleError {
    damaged(format!("its pickle is cut off, or longer than {PICKLE_LEN_MAX} bytes"))
}
