"""Parses a shell script into a tree of its commands. Runs and expands nothing. For sbatch_script.py; Python 3.6.

A word is a list of parts (KIND, TEXT, QUOTED). The kinds are `text`, `variable` (the content of ${ }), `command` (of
$( )) and `sum` (of $(( ))). A command is one of the classes below; each has the number of its first line.
"""

import collections
import re

Simple = collections.namedtuple("Simple", "line settings words documents")  # settings: (NAME, INDEX, +, VALUE)
Pipe = collections.namedtuple("Pipe", "line commands")
Group = collections.namedtuple("Group", "line body subshell")
If = collections.namedtuple("If", "line branches otherwise")
For = collections.namedtuple("For", "line name words body")
While = collections.namedtuple("While", "line test body")
Case = collections.namedtuple("Case", "line word branches")
Function = collections.namedtuple("Function", "line name body")
Listed = collections.namedtuple("Listed", "operator command background")  # operator: the one in front of the command

SETTING = re.compile(r"([A-Za-z_]\w*)(\[[^]]*\])?(\+?)=")
REDIRECT = re.compile(r"(?:\d*|\{\w+\}|&)(?:<<<|<<-?|>>|<>|>\||[<>]&|&>>?|[<>])")
NAMED = re.compile(r"[A-Za-z_]\w*|[0-9@*#?$!-]")
OPENING = ("if", "for", "while", "until", "case", "{", "select", "function")
CLOSING = ("then", "elif", "else", "fi", "do", "done", "esac", "}", ";;")


def set_of(words):
    """Return the set of these words."""
    return frozenset(words.split())


class TextError(Exception):
    """Says what cannot be read, and at which line."""

    def __init__(self, line, words):
        super().__init__(words)
        self.line = line


class Reader:
    """Reads a script from beginning to end."""

    def __init__(self, text, first_line=1):
        self.text = text
        self.at = 0
        self.first_line = first_line
        self.waiting = []  # here-documents (<<EOF) that begin after this line

    @property
    def line(self):
        return self.first_line + self.text.count("\n", 0, self.at)

    def fail(self, words):
        raise TextError(self.line, words)

    def commands(self, *ends):
        """Read commands up to one of these words, which is not consumed, or to the end of the text."""
        found, operator = [], ""
        while True:
            self.skip(newlines=True)
            if self.at >= len(self.text):
                if ends:
                    self.fail("%s is missing" % " or ".join(ends))
                return found
            if self.keyword() in ends or (")" in ends and self.text[self.at] == ")"):
                return found
            if self.keyword() in CLOSING or self.text[self.at] == ")":
                self.fail("%s does not belong here" % (self.keyword() or ")"))
            command = self.pipe()
            self.skip()
            end = re.compile(r"&&|\|\||;(?!;)|&|").match(self.text, self.at).group()
            self.at += len(end)
            found.append(Listed(operator, command, end == "&"))
            operator = end if end in ("&&", "||") else ""

    def pipe(self):
        line, commands = self.line, []
        while True:
            if self.keyword() == "!":
                self.at += 1
                self.skip()
            commands.append(self.command())
            self.skip()
            if not re.compile(r"\|(?!\|)").match(self.text, self.at):
                break
            self.at += 2 if self.text.startswith("|&", self.at) else 1
            self.skip(newlines=True)
        return commands[0] if len(commands) == 1 else Pipe(line, commands)

    def command(self):
        line, word = self.line, self.keyword()
        if word in OPENING:
            self.at += len(word)
            made = getattr(self, "read_" + {"{": "group", "until": "while", "select": "for"}.get(word, word))(line)
            self.redirects()
            return made
        if self.text.startswith("((", self.at):
            text = self.enclosed("((", "))")
            return Simple(line, [], [[("text", "((", False)], [("sum", text, True)]], [])
        if self.text[self.at] == "(":
            self.at += 1
            body = self.commands(")")
            self.at += 1
            self.redirects()
            return Group(line, body, True)
        found = re.compile(r"([A-Za-z_][\w:.-]*)[ \t]*\([ \t]*\)").match(self.text, self.at)
        if found:
            self.at = found.end()
            return self.read_function(line, found.group(1))
        return self.simple()

    def simple(self):
        line, settings, words, documents = self.line, [], [], []
        inside_test = False
        while True:
            self.skip()
            if self.at >= len(self.text):
                break
            found = None if inside_test else REDIRECT.match(self.text, self.at)
            if found and not re.compile(r"[<>]\(").match(self.text, self.at):
                self.redirect(found, documents)
                continue
            character = self.text[self.at]
            if character in "\n;" or (not inside_test and character in "&|)"):
                break
            if inside_test and words and plain(words[-1]) == "=~":
                found = re.compile(r"[^ \t\n]+").match(self.text, self.at)
                words.append([("text", found.group(), True)])
                self.at = found.end()
                continue
            if inside_test and character in "()<>&|":
                words.append([("text", re.compile(r"[()<>]|&&|\|\||.").match(self.text, self.at).group(), False)])
                self.at += len(words[-1][0][1])
                continue
            found = SETTING.match(self.text, self.at)
            if found and (not words or plain(words[0]) in ("export", "declare", "local", "readonly", "typeset")):
                self.at = found.end()
                setting = (found.group(1), found.group(2), found.group(3), self.value())
                settings.append(setting)
                continue
            words.append(self.word())
            if plain(words[-1]) == "[[" and len(words) == 1:
                inside_test = True
            elif plain(words[-1]) == "]]":
                inside_test = False
        if not words and not settings and not documents:
            self.fail("%r is not understood" % self.text[self.at : self.at + 10])
        return Simple(line, settings, words, documents)

    def value(self):
        """Read the value of a setting: a word, or a list of words for an array."""
        if not self.text.startswith("(", self.at):
            return self.word()
        self.at += 1
        words = []
        while True:
            self.skip(newlines=True)
            if self.at >= len(self.text):
                self.fail(") is missing")
            if self.text[self.at] == ")":
                self.at += 1
                return tuple(words)
            words.append(self.word())

    def redirects(self):
        while True:
            self.skip()
            found = REDIRECT.match(self.text, self.at)
            if not found:
                return
            self.redirect(found, [])

    def redirect(self, found, documents):
        self.at = found.end()
        operator = found.group().lstrip("0123456789")
        self.skip()
        if operator in ("<<", "<<-"):
            end = self.word()
            self.waiting.append((plain(end), operator == "<<-", documents))
        else:
            self.word()

    def word(self):
        parts, began = [], self.at
        while self.at < len(self.text):
            character = self.text[self.at]
            if character in " \t\n;&|<>()":
                found = re.compile(r"[<>]\(").match(self.text, self.at)
                if not found and not (character == "(" and parts and self.text[self.at - 1] in "?*+@!"):
                    break
                parts.append(("command", self.enclosed(found.group() if found else "(", ")"), False))
            elif character == "'":
                end = self.text.find("'", self.at + 1)
                if end < 0:
                    self.fail("a quote (') is never closed")
                parts.append(("text", self.text[self.at + 1 : end], True))
                self.at = end + 1
            elif character == '"':
                self.at += 1
                parts += self.quoted()
            elif character == "\\":
                if self.text[self.at + 1 : self.at + 2] != "\n":
                    parts.append(("text", self.text[self.at + 1 : self.at + 2], True))
                self.at += 2
            elif character in "$`":
                parts.append(self.dollar(False))
            else:
                end = re.compile(r"[^ \t\n;&|<>()'\"\\$`]+").match(self.text, self.at).end()
                parts.append(("text", self.text[self.at : end], False))
                self.at = end
        if self.at == began and not parts and self.at < len(self.text) and self.text[self.at] not in " \t\n;)&|":
            self.fail("%r is not understood" % self.text[self.at])
        return parts

    def quoted(self):
        parts = [("text", "", True)]
        while True:
            if self.at >= len(self.text):
                self.fail('a quote (") is never closed')
            character = self.text[self.at]
            if character == '"':
                self.at += 1
                return parts
            if character == "\\" and self.text[self.at + 1 : self.at + 2] in '$`"\\\n':
                parts.append(("text", self.text[self.at + 1].replace("\n", ""), True))
                self.at += 2
            elif character in "$`":
                parts.append(self.dollar(True))
            else:
                end = re.compile(r"[^\"\\$`]+|\\").match(self.text, self.at).end()
                parts.append(("text", self.text[self.at : end], True))
                self.at = end

    def dollar(self, quoted):
        if self.text[self.at] == "`":
            end = re.compile(r"`((?:[^`\\]|\\.)*)`", re.DOTALL).match(self.text, self.at)
            if not end:
                self.fail("a backquote (`) is never closed")
            self.at = end.end()
            return ("command", re.sub(r"\\([$`\\])", r"\1", end.group(1)), quoted)
        for opening, closing, kind in (("$((", "))", "sum"), ("$(", ")", "command"), ("${", "}", "variable")):
            if self.text.startswith(opening, self.at):
                return (kind, self.enclosed(opening, closing), quoted)
        if self.text.startswith("$'", self.at) and not quoted:
            end = re.compile(r"\$'((?:[^'\\]|\\.)*)'", re.DOTALL).match(self.text, self.at)
            if not end:
                self.fail("a quote (') is never closed")
            self.at = end.end()
            return ("text", end.group(1).replace("\\n", "\n").replace("\\t", "\t"), True)
        found = NAMED.match(self.text, self.at + 1)
        if not found:
            self.at += 1
            return ("text", "$", quoted)
        self.at = found.end()
        return ("variable", found.group(), quoted)

    def enclosed(self, opening, closing):
        """Return the text up to the matching closing; quotes and nested openings inside are skipped."""
        began = self.at
        self.at += len(opening)
        begin, depth = self.at, 0
        pair = closing[0]
        other = {")": "(", "}": "{"}[pair]
        while self.at < len(self.text):
            character = self.text[self.at]
            if character == "\\":
                self.at += 1
            elif character == "'" and pair == ")":
                self.at = self.text.find("'", self.at + 1)
                if self.at < 0:
                    break
            elif character == '"':
                self.at += 1
                self.quoted()
                continue
            elif character == other:
                depth += 1
            elif character == pair and depth:
                depth -= 1
            elif self.text.startswith(closing, self.at):
                text = self.text[begin : self.at]
                self.at += len(closing)
                return text
            elif character == pair:  # $((a) + b) is a command with a group in it
                break
            self.at += 1
        self.at = began
        return self.fail("%s is never closed" % opening)

    def skip(self, newlines=False):
        """Skip blanks, comments and continued lines; here-documents begin after the end of a line."""
        while self.at < len(self.text):
            if self.text[self.at] in " \t":
                self.at += 1
            elif self.text.startswith("\\\n", self.at):
                self.at += 2
            elif self.text[self.at] == "#":
                end = self.text.find("\n", self.at)
                self.at = len(self.text) if end < 0 else end
            elif self.text[self.at] == "\n" and newlines:
                self.at += 1
                self.read_documents()
            elif newlines and self.text[self.at] == ";" and not self.text.startswith(";;", self.at):
                self.at += 1
            else:
                return

    def read_documents(self):
        for end, tabs, documents in self.waiting:
            lines = []
            while True:
                if self.at >= len(self.text):
                    self.fail("the document up to %s has no end" % end)
                stop = self.text.find("\n", self.at)
                stop = len(self.text) if stop < 0 else stop
                line = self.text[self.at : stop]
                self.at = stop + 1
                if (line.lstrip("\t") if tabs else line) == end:
                    break
                lines.append(line)
            documents.append("\n".join(lines) + "\n")
        self.waiting = []

    def keyword(self):
        """Return the next word if nothing in it is quoted or expanded."""
        found = re.compile(r";;&?|;&|[{}!](?=[\s;]|$)|[a-z]+(?=[\s;()&|]|$)").match(self.text, self.at)
        return found.group().rstrip("&") if found else ""

    def expect(self, word):
        self.skip(newlines=True)
        if self.keyword() != word and not self.text.startswith(word, self.at):
            self.fail("%s is missing" % word)
        self.at += len(word)

    def read_group(self, line):
        body = self.commands("}")
        self.at += 1
        return Group(line, body, False)

    def read_if(self, line):
        branches, otherwise = [], []
        while True:
            test = self.commands("then")
            self.expect("then")
            branches.append((test, self.commands("elif", "else", "fi")))
            word = self.keyword()
            self.expect(word)
            if word == "elif":
                continue
            if word == "else":
                otherwise = self.commands("fi")
                self.expect("fi")
            return If(line, branches, otherwise)

    def read_for(self, line):
        self.skip()
        if self.text.startswith("((", self.at):
            name, words = None, [[("text", self.enclosed("((", "))"), True)]]
        else:
            name, words = plain(self.word()), None
            self.skip(newlines=True)
            if self.keyword() == "in":
                self.at += 2
                words = []
                while True:
                    self.skip()
                    if self.at >= len(self.text) or self.text[self.at] in ";\n":
                        break
                    words.append(self.word())
        self.skip(newlines=True)
        return For(line, name, words, self.body())

    def read_while(self, line):
        test = self.commands("do")
        return While(line, test, self.body())

    def body(self):
        self.expect("do")
        body = self.commands("done")
        self.expect("done")
        return body

    def read_case(self, line):
        self.skip()
        word = self.word()
        self.expect("in")
        branches = []
        while True:
            self.skip(newlines=True)
            if self.keyword() == "esac":
                self.at += 4
                return Case(line, word, branches)
            patterns = []
            while True:
                self.skip()
                if self.at < len(self.text) and self.text[self.at] in "(|":
                    self.at += 1
                elif self.at < len(self.text) and self.text[self.at] == ")":
                    self.at += 1
                    break
                else:
                    patterns.append(self.word())
                    if self.at >= len(self.text):
                        self.fail("esac is missing")
            branches.append((patterns, self.commands(";;", "esac")))
            found = re.compile(r";;&?|;&").match(self.text, self.at)
            self.at = found.end() if found else self.at

    def read_function(self, line, name=None):
        if name is None:
            self.skip()
            name = plain(self.word())
            self.skip()
            found = re.compile(r"\([ \t]*\)").match(self.text, self.at)
            self.at = found.end() if found else self.at
        self.skip(newlines=True)
        return Function(line, name, [Listed("", self.command(), False)])


def plain(word):
    """Return the word's literal text, without the parts that a shell expands."""
    return "".join(text for kind, text, _ in word if kind == "text")


def parse(text, first_line=1):
    reader = Reader(text, first_line)
    return reader.commands()


def moved(listed, line):
    """Return commands of another text as if they were all on this line."""

    def move(thing):
        if isinstance(thing, list):
            return [move(one) for one in thing]
        if isinstance(thing, tuple):
            if hasattr(thing, "_fields"):
                changed = thing._replace(**{name: move(getattr(thing, name)) for name in thing._fields})
                return changed._replace(line=line) if "line" in thing._fields else changed
            return tuple(move(one) for one in thing)
        return thing

    return move(listed)
