# The Markdown of docs/ as man(7): headings, paragraphs, lists, tables, blocks of code.
# A table's first column becomes the tag of an indented paragraph, the last one its text.

# Text with `code`, **stress** and [links](to), of which the text stays.
function inline(text, parts, count, i, done) {
    while (match(text, /\[[^]]*\]\([^)]*\)/)) {
        i = substr(text, RSTART, RLENGTH)
        sub(/^\[/, "", i)
        sub(/\]\([^)]*\)$/, "", i)
        text = substr(text, 1, RSTART - 1) i substr(text, RSTART + RLENGTH)
    }
    count = split(text, parts, "`")
    done = ""
    for (i = 1; i <= count; i++) {
        if (i % 2 == 0) {
            done = done "\\fB" literal(parts[i]) "\\fR"
        } else {
            gsub(/\\/, "\\e", parts[i])
            while (match(parts[i], /\*\*[^*]+\*\*/))
                parts[i] = substr(parts[i], 1, RSTART - 1) "\\fI" substr(parts[i], RSTART + 2, RLENGTH - 4) "\\fR" \
                    substr(parts[i], RSTART + RLENGTH)
            done = done parts[i]
        }
    }
    return done
}

# As it is typed.
function literal(text) {
    gsub(/\\/, "\\e", text)
    gsub(/-/, "\\-", text)
    gsub(/'/, "\\(aq", text)
    gsub(/\^/, "\\(ha", text)
    gsub(/~/, "\\(ti", text)
    return text
}

# A line of text is no request, whatever it begins with.
function put(text) {
    print (text ~ /^[.']/ ? "\\\\&" : "") text
}

function row(line, cells, count) {
    sub(/^\| */, "", line)
    sub(/ *\|$/, "", line)
    count = split(line, cells, / +\| +/)
    if (!is_table) {
        is_table = 1
        split("", heads)
        for (; count > 0; count--) heads[count] = cells[count]
        return
    }
    if (line ~ /^[-:| ]+$/) return
    print ".TP"
    if (count == 3 && heads[2] ~ /^(default|severity|value)$/) {
        if (cells[2] == "–") cells[2] = "has to be given"
        else if (heads[2] == "default") cells[2] = "default: " cells[2]
        put(inline(cells[1]) " (" inline(cells[2]) ")")
    } else {
        put(inline(cells[1]))
        if (count == 3) {
            put(inline(cells[2]) ".")
            print ".br"
            cells[3] = toupper(substr(heads[3], 1, 1)) substr(heads[3], 2) ": " cells[3]
        }
    }
    put(inline(cells[count]))
    is_text = 0
}

/^```/ {
    is_code = !is_code
    if (is_code) print ".PP\n.RS 4\n.nf"
    else print ".fi\n.RE"
    is_text = 0
    next
}
is_code { put(literal($0)); next }
/^\|/ { row($0); next }
{ is_table = 0 }
/^$/ { is_text = 0; next }
/^### / { print ".SS \"" inline(substr($0, 5)) "\""; is_text = 1; next }
/^## / { print ".SH \"" toupper(inline(substr($0, 4))) "\""; is_text = 1; next }
/^\* / { print ".IP \\(bu 2"; put(inline(substr($0, 3))); is_text = 1; next }
{
    if (!is_text) print ".PP"
    is_text = 1
    # An inline that goes on in the next line is one all the same.
    line = $0
    more = line
    while ((gsub(/`/, "`", line) % 2 || line ~ /\[[^]]*$/ || line ~ /\]\([^)]*$/) && (getline more) > 0 && more != "")
        line = line " " more
    put(inline(line))
    if (more == "") is_text = 0
}
