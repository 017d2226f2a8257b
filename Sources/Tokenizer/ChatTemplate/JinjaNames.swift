// The functions, methods, filters and tests that templates may name.

/// Global functions: jinja2's, and those that Hugging Face adds.
enum JinjaFunction: String {
  case range, dict, namespace, cycler, joiner
  case raiseException = "raise_exception"
  case strftimeNow = "strftime_now"
}

/// Methods of strings, lists, mappings and of jinja2's own objects.
enum JinjaMethod: String {
  // Strings.
  case strip, lstrip, rstrip, split, rsplit, splitlines, startswith, endswith, upper, lower, title, capitalize
  case swapcase, casefold, replace, join, find, rfind, index, rindex, count, format, removeprefix,
    removesuffix
  case partition, rpartition, zfill, ljust, rjust, center
  case isdigit, isalpha, isalnum, isspace, isupper, islower, isnumeric, isdecimal
  // Mappings.
  case get, items, keys, values, copy
  // What would change a list or a mapping.
  case append, extend, insert, remove, pop, clear, sort, reverse, update, setdefault, popitem
  // Of `loop`, `cycler` and the template's dict().
  case cycle, changed, next, reset, fromkeys

  /// Whether a value has this method, and whether the sandbox lets a template use it.
  func access(_ value: JinjaValue) -> Access {
    switch value {
    case .string: return isOfStrings ? .allowed : .none
    case .list(let list):
      switch self {
      case .index, .count: return .allowed
      case .copy: return list.isTuple ? .none : .allowed
      case .append, .extend, .insert, .remove, .pop, .clear, .sort, .reverse:
        return list.isTuple ? .none : .forbidden
      default: return .none
      }
    case .dict:
      switch self {
      case .get, .items, .keys, .values, .copy: return .allowed
      case .pop, .clear, .update, .setdefault, .popitem, .fromkeys: return .forbidden
      default: return .none
      }
    case .loop: return self == .cycle || self == .changed ? .allowed : .none
    case .cycler: return self == .next || self == .reset ? .allowed : .none
    case .range: return self == .index || self == .count ? .allowed : .none
    default: return .none
    }
  }

  enum Access { case none, allowed, forbidden }

  private var isOfStrings: Bool {
    switch self {
    case .get, .items, .keys, .values, .copy, .append, .extend, .insert, .remove, .pop, .clear, .sort,
      .reverse,
      .update, .setdefault, .popitem, .cycle, .changed, .next, .reset, .fromkeys:
      false
    default: true
    }
  }
}

/// Filters.
enum JinjaFilter: String, CaseIterable {
  case abs, attr, batch, capitalize, center, count, d, `default`, dictsort, e, escape, first, float,
    forceescape
  case format, groupby, indent, int, items, join, last, length, list, lower, map, max, min, reject, rejectattr
  case replace, reverse, round, safe, select, selectattr, slice, sort, string, sum, title, tojson, trim,
    truncate
  case unique, upper, wordcount

  private static let numbered = allCases

  /// The number of this filter in nodes.
  var number: Int32 {
    Int32(JinjaFilter.numbered.firstIndex(of: self) ?? 0)
  }

  init(number: Int32) {
    self = JinjaFilter.numbered[Int(number)]
  }
}

/// Tests, behind `is`.
enum JinjaTest: String, CaseIterable {
  case boolean, callable, defined, divisibleby, eq, equalto, escaped, even, `false`, filter, float, ge,
    greaterthan
  case gt, `in`, integer, iterable, le, lessthan, lower, lt, mapping, ne, none, number, odd, sameas, sequence
  case string, test, `true`, undefined, upper

  private static let numbered = allCases

  /// The number of this test in nodes.
  var number: Int32 {
    Int32(JinjaTest.numbered.firstIndex(of: self) ?? 0)
  }

  init(number: Int32) {
    self = JinjaTest.numbered[Int(number)]
  }

  /// The test of a name or of an operator, as `select` takes it.
  init?(name: JinjaText) {
    switch name.string {
    case "==": self = .eq
    case "!=": self = .ne
    case "<": self = .lt
    case "<=": self = .le
    case ">": self = .gt
    case ">=": self = .ge
    case let word:
      guard let known = JinjaTest(rawValue: word) else { return nil }
      self = known
    }
  }
}
