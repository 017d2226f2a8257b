// Runs a compiled template: operations on text that methods and filters share.

internal import Base

extension JinjaRenderer {
  /// `text.replace(old, new, count)`; a negative count replaces all.
  func replaced(
    _ text: JinjaText, _ old: JinjaText, _ new: JinjaText, _ count: Int
  ) throws(ChatTemplateError) -> JinjaText {
    var left = count < 0 ? Int.max : count
    guard left > 0 else { return text }
    if old.isEmpty { return try interleaved(text, new, left) }
    guard var at = try find(old, in: text) else { return text }
    return try capture { () throws(ChatTemplateError) in
      var start = 0
      while left > 0 {
        output.append(text.slice(start, at).bytes)
        output.append(new.bytes)
        start = at + old.count
        left -= 1
        try checkOutput()
        guard let next = try find(old, in: text, from: start) else { break }
        at = next
      }
      output.append(text.slice(start, text.count).bytes)
    }
  }

  /// `new` before each character and at the end.
  private func interleaved(_ text: JinjaText, _ new: JinjaText, _ count: Int) throws(ChatTemplateError)
    -> JinjaText
  {
    try step(text.count >> 1)
    return try capture { () throws(ChatTemplateError) in
      var left = count
      var offset = 0
      while left > 0 {
        output.append(new.bytes)
        left -= 1
        try checkOutput()
        guard offset < text.count else { break }
        let end = text.end(ofCharacterAt: offset)
        output.append(text.slice(offset, end).bytes)
        offset = end
      }
      output.append(text.slice(offset, text.count).bytes)
    }
  }

  /// The elements as text with `separator` between them.
  func joined(
    _ items: [JinjaValue], _ separator: JinjaText, mustBeText: Bool = false
  ) throws(ChatTemplateError) -> JinjaText {
    try capture { () throws(ChatTemplateError) in
      for (index, item) in items.enumerated() {
        try step()
        if index > 0 { output.append(separator.bytes) }
        if mustBeText { _ = try item.expectedText() }
        try write(item)
      }
    }
  }

  /// The text in another case.
  func cased(_ text: JinjaText, _ method: JinjaMethod) throws(ChatTemplateError) -> JinjaText {
    try stepOverCharacters(of: text)
    return try capture { () throws(ChatTemplateError) in
      PythonText.append(text, in: method, to: &output)
      try checkOutput()
    }
  }
}
