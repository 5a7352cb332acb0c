/* The hot loops of Holdfast in C.  Each has a twin in Python (see __init__.py and the tests that compare them):
 * the twin says what is done, and does it where there was no compiler.
 *
 * Rules: only CPython's public C API; no state but what is passed in; whatever is out of the ordinary goes to the
 * Python function given as `slow`.
 */
#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <structmember.h>
#include <datetime.h>
#include <math.h>
#include <stdint.h>
#include <string.h>

static PyObject *empty;
static PyObject *str_session;
static PyObject *str_flushing;
static PyObject *str_dirty;
static PyObject *str_originals;
static PyObject *str_note_change;
static PyObject *str_utcoffset;
static PyObject *str_saved;
static PyObject *str_frames;
static PyObject *str_named;
static PyObject *str_closed;
static PyObject *str_pending;
static PyObject *str_change_kind;
static PyObject *str_instance;

/* What is walked while a user's code may run (a processor, a comparison, a hash) is copied first: the code may change
 * the list, and a borrowed element would be gone. */
static PyObject *
snapshot(PyObject *given, const char *doc)
{
    PyObject *copied = PySequence_Tuple(given);
    if (copied == NULL && PyErr_ExceptionMatches(PyExc_TypeError))
        PyErr_SetString(PyExc_TypeError, doc);
    return copied;
}

/* ------------------------------------------------------------------------------------ rows to objects */

/* The value at a place of a row: a new reference.  Rows are tuples, or asyncpg's records. */
static inline PyObject *
value_at(PyObject *row, Py_ssize_t place)
{
    if (PyTuple_CheckExact(row)) {
        if (place >= PyTuple_GET_SIZE(row)) {
            PyErr_SetString(PyExc_IndexError, "the row is too short");
            return NULL;
        }
        return Py_NewRef(PyTuple_GET_ITEM(row, place));
    }
    /* asyncpg's records: what PySequence_GetItem does, without its questions. */
    PySequenceMethods *methods = Py_TYPE(row)->tp_as_sequence;
    if (methods != NULL && methods->sq_item != NULL && place >= 0)
        return methods->sq_item(row, place);
    return PySequence_GetItem(row, place);
}

static inline PyObject *
processed_value_at(PyObject *row, Py_ssize_t place, PyObject *processors)
{
    PyObject *value = value_at(row, place);
    if (value == NULL || processors == Py_None)
        return value;
    PyObject *processor = PyTuple_GET_ITEM(processors, place);
    if (processor == Py_None)
        return value;
    PyObject *processed = PyObject_CallOneArg(processor, value);
    Py_DECREF(value);
    return processed;
}

/* One object of a row; *key becomes a new reference to the value of its key.
 *
 * Set as attributes and not through `__dict__`: so CPython keeps the values inside the object, and need not make
 * a dict that the garbage collector would have to look into (1,000 objects of 8 columns: 265 against 350 us).
 */
static PyObject *
make_one(PyTypeObject *cls, PyObject *row, PyObject *names, PyObject *processors, PyObject *batch_name,
         PyObject *batch, Py_ssize_t key_place, PyObject **key)
{
    PyObject *made = cls->tp_new(cls, empty, NULL);
    if (made == NULL)
        return NULL;
    Py_ssize_t width = PyTuple_GET_SIZE(names);
    for (Py_ssize_t place = 0; place < width; place++) {
        PyObject *value = processed_value_at(row, place, processors);
        if (value == NULL)
            goto failed;
        int set = PyObject_GenericSetAttr(made, PyTuple_GET_ITEM(names, place), value);
        if (place == key_place && set == 0)
            *key = value;
        else
            Py_DECREF(value);
        if (set < 0)
            goto failed;
    }
    if (PyObject_GenericSetAttr(made, batch_name, batch) < 0)
        goto failed;
    return made;
failed:
    Py_DECREF(made);
    return NULL;
}

/* Let the garbage collector not look into something that can be in no ring. */
static inline void
hide(PyObject *one)
{
    if (PyObject_GC_IsTracked(one))
        PyObject_GC_UnTrack(one);
}

/* One object, its weak reference and its place in the identity map.
 *
 * The object is not shown to the garbage collector yet (see hydrate/siblings.py, which does it).  Its reference is
 * never shown: one without a callback holds nothing, so it can be in no ring.
 */
static int
put_one(PyObject *made, PyObject *key, Py_ssize_t place, PyObject *objects, PyObject *members, PyObject *identity)
{
    PyList_SET_ITEM(objects, place, made);
    if (key == NULL) {
        PyErr_SetString(PyExc_IndexError, "key_place is beyond the row");
        return -1;
    }
    hide(made);
    PyObject *reference = PyWeakref_NewRef(made, NULL);
    if (reference == NULL)
        return -1;
    hide(reference);
    int failed = PyList_Append(members, reference) < 0 || PyDict_SetItem(identity, key, reference) < 0;
    Py_DECREF(reference);
    return failed ? -1 : 0;
}

PyDoc_STRVAR(make_objects_doc,
"make_objects(cls, rows, names, processors, batch_name, batch, key_place, members, identity) -> [object, ...] | None");

static PyObject *
make_objects(PyObject *self, PyObject *const *args, Py_ssize_t count)
{
    if (count != 9 || !PyType_Check(args[0]) || !PyTuple_Check(args[2])
        || !(args[3] == Py_None
             || (PyTuple_Check(args[3]) && PyTuple_GET_SIZE(args[3]) == PyTuple_GET_SIZE(args[2])))
        || !PyList_Check(args[7]) || !PyDict_CheckExact(args[8])) {
        PyErr_SetString(PyExc_TypeError, make_objects_doc);
        return NULL;
    }
    PyTypeObject *cls = (PyTypeObject *)args[0];
    PyObject *members = args[7], *identity = args[8];
    Py_ssize_t key_place = PyLong_AsSsize_t(args[6]);
    if (key_place == -1 && PyErr_Occurred())
        return NULL;
    PyObject *rows = snapshot(args[1], make_objects_doc);
    if (rows == NULL)
        return NULL;
    Py_ssize_t size = PyTuple_GET_SIZE(rows);
    PyObject *objects = PyList_New(size);
    int plain_keys = 1;
    for (Py_ssize_t place = 0; objects != NULL && place < size; place++) {
        PyObject *key = NULL;
        PyObject *made = make_one(cls, PyTuple_GET_ITEM(rows, place), args[2], args[3], args[4],
                                  args[5], key_place, &key);
        if (made == NULL || put_one(made, key, place, objects, members, identity) < 0)
            Py_CLEAR(objects);
        plain_keys = plain_keys && key != NULL && !PyObject_IS_GC(key);
        Py_XDECREF(key);
    }
    Py_DECREF(rows);
    if (objects != NULL && PyDict_GET_SIZE(identity) == size) {
        hide(members);
        if (plain_keys)
            hide(identity); /* until something else is put in: then CPython itself shows it again */
        return objects;
    }
    PyDict_Clear(identity);
    PyList_SetSlice(members, 0, PyList_GET_SIZE(members), NULL);
    if (objects == NULL)
        return NULL;
    Py_DECREF(objects);
    Py_RETURN_NONE;
}

/* What a weak reference leads to: a new reference, NULL where it is gone. */
static inline PyObject *
follow(PyObject *reference)
{
#if PY_VERSION_HEX >= 0x030D0000
    PyObject *one;
    PyWeakref_GetRef(reference, &one);
    return one;
#else
    PyObject *one = PyWeakref_GetObject(reference);
    return one == Py_None ? NULL : Py_NewRef(one);
#endif
}

PyDoc_STRVAR(alive_doc, "alive(references, name, value) -> [one, ...]: those alive that hold the value under the name");

static PyObject *
alive(PyObject *self, PyObject *const *args, Py_ssize_t count)
{
    if (count != 3 || !PyList_Check(args[0])) {
        PyErr_SetString(PyExc_TypeError, alive_doc);
        return NULL;
    }
    PyObject *out = PyList_New(0);
    for (Py_ssize_t place = 0; out != NULL && place < PyList_GET_SIZE(args[0]); place++) {
        PyObject *reference = PyList_GET_ITEM(args[0], place);
        PyObject *one = PyWeakref_CheckRef(reference) ? follow(reference) : NULL;
        if (one == NULL)
            continue;
        PyObject *held = PyObject_GenericGetDict(one, NULL);
        PyObject *value = held == NULL ? NULL : PyDict_GetItemWithError(held, args[1]);
        if (PyErr_Occurred() || (value == args[2] && PyList_Append(out, one) < 0))
            Py_CLEAR(out);
        Py_XDECREF(held);
        Py_DECREF(one);
    }
    return out;
}

PyDoc_STRVAR(track_doc, "track(references): show the objects that are alive to the garbage collector");

static PyObject *
track(PyObject *self, PyObject *references)
{
    if (!PyList_Check(references)) {
        PyErr_SetString(PyExc_TypeError, track_doc);
        return NULL;
    }
    for (Py_ssize_t place = 0; place < PyList_GET_SIZE(references); place++) {
        PyObject *reference = PyList_GET_ITEM(references, place);
        PyObject *one = PyWeakref_CheckRef(reference) ? follow(reference) : NULL;
        if (one == NULL)
            continue;
        if (PyObject_IS_GC(one) && !PyObject_GC_IsTracked(one))
            PyObject_GC_Track(one);
        Py_DECREF(one);
    }
    Py_RETURN_NONE;
}

PyDoc_STRVAR(values_at_doc, "values_at(rows, place, processor) -> [processor(row[place]) for row in rows]");

static PyObject *
values_at(PyObject *self, PyObject *const *args, Py_ssize_t count)
{
    if (count != 3) {
        PyErr_SetString(PyExc_TypeError, values_at_doc);
        return NULL;
    }
    Py_ssize_t place = PyLong_AsSsize_t(args[1]);
    if (place == -1 && PyErr_Occurred())
        return NULL;
    PyObject *rows = snapshot(args[0], values_at_doc);
    if (rows == NULL)
        return NULL;
    Py_ssize_t size = PyTuple_GET_SIZE(rows);
    PyObject *out = PyList_New(size);
    for (Py_ssize_t n = 0; out != NULL && n < size; n++) {
        PyObject *value = value_at(PyTuple_GET_ITEM(rows, n), place);
        if (value != NULL && args[2] != Py_None) {
            PyObject *processed = PyObject_CallOneArg(args[2], value);
            Py_SETREF(value, processed);
        }
        if (value == NULL)
            Py_CLEAR(out);
        else
            PyList_SET_ITEM(out, n, value);
    }
    Py_DECREF(rows);
    return out;
}

static int
put_in_group(PyObject *groups, PyObject *key, PyObject *one, PyObject *kind)
{
    PyObject *members = PyDict_GetItemWithError(groups, key);
    if (members != NULL)
        return PyList_Append(members, one);
    if (PyErr_Occurred())
        return -1;
    members = kind == NULL ? PyList_New(0) : PyObject_CallNoArgs(kind);
    if (members == NULL)
        return -1;
    int failed = PyList_Append(members, one) < 0 || PyDict_SetItem(groups, key, members) < 0;
    Py_DECREF(members);
    return failed ? -1 : 0;
}

PyDoc_STRVAR(group_doc, "group(keys, objects, kind=list) -> {key: [object, ...]}");

static PyObject *
group(PyObject *self, PyObject *const *args, Py_ssize_t count)
{
    PyObject *kind = count == 3 && args[2] != (PyObject *)&PyList_Type ? args[2] : NULL;
    if (count < 2 || count > 3 || !PyList_Check(args[0]) || !PyList_Check(args[1])
        || (kind != NULL && !(PyType_Check(kind) && PyType_IsSubtype((PyTypeObject *)kind, &PyList_Type)))
        || PyList_GET_SIZE(args[0]) != PyList_GET_SIZE(args[1])) {
        PyErr_SetString(PyExc_ValueError, "two lists are wanted, of one length");
        return NULL;
    }
    PyObject *keys = PyList_AsTuple(args[0]), *objects = PyList_AsTuple(args[1]);
    PyObject *found = keys == NULL || objects == NULL ? NULL : PyDict_New();
    for (Py_ssize_t n = 0; found != NULL && n < PyTuple_GET_SIZE(objects); n++) {
        if (put_in_group(found, PyTuple_GET_ITEM(keys, n), PyTuple_GET_ITEM(objects, n), kind) < 0)
            Py_CLEAR(found);
    }
    Py_XDECREF(keys);
    Py_XDECREF(objects);
    return found;
}

/* ------------------------------------------------------------------------------------ objects to columns */

PyDoc_STRVAR(take_doc, "take(held, name) -> [values.get(name) for values in held]");
PyDoc_STRVAR(settle_doc, "settle(held, name) -> [values.setdefault(name, None) for values in held]");

static PyObject *
take_column(PyObject *const *args, Py_ssize_t count, int settle, const char *doc)
{
    if (count != 2 || !PyList_Check(args[0])) {
        PyErr_SetString(PyExc_TypeError, doc);
        return NULL;
    }
    PyObject *held = args[0], *name = args[1];
    Py_ssize_t size = PyList_GET_SIZE(held);
    PyObject *out = PyList_New(size);
    for (Py_ssize_t n = 0; out != NULL && n < size; n++) {
        PyObject *values = PyList_GET_ITEM(held, n);
        if (!PyDict_Check(values)) {
            PyErr_SetString(PyExc_TypeError, doc);
            Py_CLEAR(out);
            break;
        }
        PyObject *value = PyDict_GetItemWithError(values, name);
        if (value == NULL) {
            if (PyErr_Occurred() || (settle && PyDict_SetItem(values, name, Py_None) < 0)) {
                Py_CLEAR(out);
                break;
            }
            value = Py_None;
        }
        PyList_SET_ITEM(out, n, Py_NewRef(value));
    }
    return out;
}

static PyObject *
take(PyObject *self, PyObject *const *args, Py_ssize_t count)
{
    return take_column(args, count, 0, take_doc);
}

static PyObject *
settle(PyObject *self, PyObject *const *args, Py_ssize_t count)
{
    return take_column(args, count, 1, settle_doc);
}

PyDoc_STRVAR(values_of_doc, "values_of(instances) -> [instance.__dict__ for instance in instances]");

static PyObject *
values_of(PyObject *self, PyObject *instances)
{
    if (!PyList_Check(instances)) {
        PyErr_SetString(PyExc_TypeError, values_of_doc);
        return NULL;
    }
    Py_ssize_t size = PyList_GET_SIZE(instances);
    PyObject *out = PyList_New(size);
    for (Py_ssize_t n = 0; out != NULL && n < size; n++) {
        PyObject *values = PyObject_GenericGetDict(PyList_GET_ITEM(instances, n), NULL);
        if (values == NULL)
            Py_CLEAR(out);
        else
            PyList_SET_ITEM(out, n, values);
    }
    return out;
}

PyDoc_STRVAR(unique_doc, "unique(objects) -> [object, ...]: each once, None left out");

static PyObject *
unique(PyObject *self, PyObject *given)
{
    PyObject *objects = snapshot(given, unique_doc);
    if (objects == NULL)
        return NULL;
    PyObject *out = PyList_New(0), *seen = PySet_New(NULL);
    for (Py_ssize_t n = 0; out != NULL && seen != NULL && n < PyTuple_GET_SIZE(objects); n++) {
        PyObject *one = PyTuple_GET_ITEM(objects, n);
        if (one == Py_None)
            continue;
        PyObject *number = PyLong_FromVoidPtr(one);
        Py_ssize_t size = PySet_GET_SIZE(seen);
        if (number == NULL || PySet_Add(seen, number) < 0
            || (PySet_GET_SIZE(seen) > size && PyList_Append(out, one) < 0))
            Py_CLEAR(out);
        Py_XDECREF(number);
    }
    if (seen == NULL)
        Py_CLEAR(out);
    Py_XDECREF(seen);
    Py_DECREF(objects);
    return out;
}

PyDoc_STRVAR(lacking_doc, "lacking(instances, name) -> [i for i in instances if name not in i.__dict__]");

static PyObject *
lacking(PyObject *self, PyObject *const *args, Py_ssize_t count)
{
    if (count != 2) {
        PyErr_SetString(PyExc_TypeError, lacking_doc);
        return NULL;
    }
    PyObject *instances = snapshot(args[0], lacking_doc);
    PyObject *out = instances == NULL ? NULL : PyList_New(0);
    for (Py_ssize_t n = 0; out != NULL && n < PyTuple_GET_SIZE(instances); n++) {
        PyObject *one = PyTuple_GET_ITEM(instances, n);
        PyObject *held = PyObject_GenericGetDict(one, NULL);
        int has = held == NULL ? -1 : PyDict_Contains(held, args[1]);
        Py_XDECREF(held);
        if (has < 0 || (!has && PyList_Append(out, one) < 0))
            Py_CLEAR(out);
    }
    Py_XDECREF(instances);
    return out;
}

PyDoc_STRVAR(kinds_doc, "kinds(values) -> set(map(type, values))");

static PyObject *
kinds(PyObject *self, PyObject *given)
{
    PyObject *values = PySequence_Fast(given, "values must be a sequence");
    if (values == NULL)
        return NULL;
    PyObject *found = PySet_New(NULL);
    PyTypeObject *last = NULL;
    for (Py_ssize_t n = 0; found != NULL && n < PySequence_Fast_GET_SIZE(values); n++) {
        PyTypeObject *kind = Py_TYPE(PySequence_Fast_GET_ITEM(values, n));
        if (kind != last && PySet_Add(found, (PyObject *)kind) < 0)
            Py_CLEAR(found);
        last = kind;
    }
    Py_DECREF(values);
    return found;
}

PyDoc_STRVAR(text_facts_doc, "text_facts(values) -> (longest, has a NUL, has a lone surrogate); None is no text");

static PyObject *
text_facts(PyObject *self, PyObject *given)
{
    PyObject *values = PySequence_Fast(given, "values must be a sequence");
    if (values == NULL)
        return NULL;
    Py_ssize_t longest = 0;
    int nul = 0, surrogate = 0;
    for (Py_ssize_t n = 0; n < PySequence_Fast_GET_SIZE(values); n++) {
        PyObject *value = PySequence_Fast_GET_ITEM(values, n);
        if (value == Py_None)
            continue;
        if (!PyUnicode_Check(value) || PyUnicode_READY(value) < 0) {
            if (!PyErr_Occurred())
                PyErr_SetString(PyExc_TypeError, "texts are wanted");
            Py_DECREF(values);
            return NULL;
        }
        Py_ssize_t length = PyUnicode_GET_LENGTH(value);
        int kind = PyUnicode_KIND(value);
        const void *data = PyUnicode_DATA(value);
        longest = length > longest ? length : longest;
        if (kind == PyUnicode_1BYTE_KIND) {
            nul |= memchr(data, 0, (size_t)length) != NULL;
            continue;
        }
        for (Py_ssize_t place = 0; place < length; place++) {
            Py_UCS4 letter = PyUnicode_READ(kind, data, place);
            nul |= letter == 0;
            surrogate |= letter >= 0xD800 && letter <= 0xDFFF;
        }
    }
    Py_DECREF(values);
    return Py_BuildValue("(nNN)", longest, PyBool_FromLong(nul), PyBool_FromLong(surrogate));
}

/* ------------------------------------------------------------------------------------ what changed */

/* Values whose comparison runs nobody's code. */
static inline int
is_plain(PyObject *value)
{
    return PyUnicode_CheckExact(value) || PyLong_CheckExact(value) || PyFloat_CheckExact(value)
           || PyBool_Check(value) || value == Py_None;
}

/* Whether a value is another one; an SQL expression always is, and must not be compared. */
static int
differs(PyObject *before, PyObject *now, PyObject *missing, PyObject *expression)
{
    if (before == now || now == missing)
        return 0;
    if (before == missing)
        return 1;
    if (!is_plain(now)) {
        int special = PyObject_IsInstance(now, expression);
        if (special != 0)
            return special;
    }
    return PyObject_RichCompareBool(before, now, Py_NE);
}

/* Add a name of a column that changed to the list. */
static int
note_changed(PyObject *names, PyObject *name, PyObject *before, PyObject *held, PyObject *columns,
             PyObject *missing, PyObject *expression)
{
    int known = PyDict_Contains(columns, name);
    PyObject *now = known > 0 ? PyDict_GetItemWithError(held, name) : NULL;
    if (known < 0 || (now == NULL && PyErr_Occurred()))
        return -1;
    if (now == NULL)
        return 0;
    Py_INCREF(now);
    int changed = differs(before, now, missing, expression);
    Py_DECREF(now);
    return changed <= 0 ? changed : PyList_Append(names, name);
}

/* Whether all values before are plain, so that the dict can be walked as it stands: a comparison with a plain value
 * of anything else is one that it leaves to Python, and then the walk begins anew on a copy. */
static int
are_plain(PyObject *originals, PyObject *held)
{
    PyObject *name, *before;
    Py_ssize_t place = 0;
    while (PyDict_Next(originals, &place, &name, &before)) {
        PyObject *now = PyUnicode_CheckExact(name) ? PyDict_GetItemWithError(held, name) : NULL;
        if (now == NULL || !is_plain(before) || !is_plain(now))
            return 0;
    }
    return 1;
}

/* The names of an object's columns that changed, as a tuple. */
static PyObject *
changed_names(PyObject *originals, PyObject *held, PyObject *columns, PyObject *missing, PyObject *expression)
{
    PyObject *walked = are_plain(originals, held) ? Py_NewRef(originals) : PyDict_Copy(originals);
    if (walked == NULL)
        return NULL;
    PyObject *names = PyList_New(0), *name, *before;
    Py_ssize_t place = 0;
    while (names != NULL && PyDict_Next(walked, &place, &name, &before)) {
        Py_INCREF(name);
        Py_INCREF(before);
        if (note_changed(names, name, before, held, columns, missing, expression) < 0)
            Py_CLEAR(names);
        Py_DECREF(name);
        Py_DECREF(before);
    }
    Py_DECREF(walked);
    if (names == NULL)
        return NULL;
    PyObject *out = PyList_AsTuple(names);
    Py_DECREF(names);
    return out;
}

PyDoc_STRVAR(changed_doc, "changed(instances, dirty, columns, missing, expression) -> {names: [instance, ...]}");

static PyObject *
changed(PyObject *self, PyObject *const *args, Py_ssize_t count)
{
    if (count != 5 || !PyList_Check(args[0]) || !PyDict_Check(args[1]) || !PyDict_Check(args[2])) {
        PyErr_SetString(PyExc_TypeError, changed_doc);
        return NULL;
    }
    PyObject *instances = PyList_AsTuple(args[0]);
    PyObject *found = instances == NULL ? NULL : PyDict_New();
    for (Py_ssize_t n = 0; found != NULL && n < PyTuple_GET_SIZE(instances); n++) {
        PyObject *instance = PyTuple_GET_ITEM(instances, n);
        PyObject *originals = NULL, *held = NULL, *names = NULL;
        PyObject *number = PyLong_FromVoidPtr(instance);
        PyObject *change = number == NULL ? NULL : PyDict_GetItemWithError(args[1], number);
        Py_XDECREF(number);
        if (change == NULL) {
            if (PyErr_Occurred())
                Py_CLEAR(found);
            continue;
        }
        int failed = (originals = PyObject_GetAttr(change, str_originals)) == NULL
                     || !PyDict_Check(originals) || (held = PyObject_GenericGetDict(instance, NULL)) == NULL
                     || (names = changed_names(originals, held, args[2], args[3], args[4])) == NULL;
        if (!failed && PyTuple_GET_SIZE(names))
            failed = put_in_group(found, names, instance, NULL) < 0;
        Py_XDECREF(originals);
        Py_XDECREF(held);
        Py_XDECREF(names);
        if (failed) {
            if (!PyErr_Occurred())
                PyErr_SetString(PyExc_TypeError, changed_doc);
            Py_CLEAR(found);
        }
    }
    Py_XDECREF(instances);
    return found;
}

/* ------------------------------------------------------------------------------------ arrays for PostgreSQL */

typedef struct {
    PyObject *bytes;
    Py_ssize_t used;
} Writer;

static int
reserve(Writer *out, Py_ssize_t more)
{
    Py_ssize_t size = PyBytes_GET_SIZE(out->bytes);
    if (more > PY_SSIZE_T_MAX / 2 - out->used) {
        PyErr_NoMemory();
        return -1;
    }
    if (out->used + more <= size)
        return 0;
    return _PyBytes_Resize(&out->bytes, (out->used + more) * 2);
}

static inline void
put_32(Writer *out, uint32_t value)
{
    unsigned char *to = (unsigned char *)PyBytes_AS_STRING(out->bytes) + out->used;
    to[0] = (unsigned char)(value >> 24);
    to[1] = (unsigned char)(value >> 16);
    to[2] = (unsigned char)(value >> 8);
    to[3] = (unsigned char)value;
    out->used += 4;
}

static inline void
put_64(Writer *out, uint64_t value)
{
    put_32(out, (uint32_t)(value >> 32));
    put_32(out, (uint32_t)value);
}

static int
put_raw(Writer *out, const char *data, Py_ssize_t size)
{
    if (data == NULL || reserve(out, size) < 0)
        return -1;
    memcpy(PyBytes_AS_STRING(out->bytes) + out->used, data, (size_t)size);
    out->used += size;
    return 0;
}

static int
put_sized(Writer *out, const char *data, Py_ssize_t size)
{
    if (data == NULL || reserve(out, size + 4) < 0)
        return -1;
    if (size > INT32_MAX) {
        PyErr_SetString(PyExc_OverflowError, "the value is longer than PostgreSQL takes");
        return -1;
    }
    put_32(out, (uint32_t)size);
    return put_raw(out, data, size);
}

static int
put_text(Writer *out, PyObject *value)
{
    Py_ssize_t size;
    const char *text = PyUnicode_AsUTF8AndSize(value, &size);
    return put_sized(out, text, text == NULL ? 0 : size);
}

static int
put_blob(Writer *out, PyObject *value)
{
    if (!PyBytes_Check(value)) {
        PyErr_SetString(PyExc_TypeError, "bytes are wanted");
        return -1;
    }
    return put_sized(out, PyBytes_AS_STRING(value), PyBytes_GET_SIZE(value));
}

static int
put_int(Writer *out, PyObject *value)
{
    int overflow;
    long long number = PyLong_AsLongLongAndOverflow(value, &overflow);
    if (number == -1 && PyErr_Occurred())
        return -1;
    if (overflow || number < INT32_MIN || number > INT32_MAX) {
        PyErr_SetString(PyExc_OverflowError, "beyond 32 bits");
        return -1;
    }
    if (reserve(out, 8) < 0)
        return -1;
    put_32(out, 4);
    put_32(out, (uint32_t)(int32_t)number);
    return 0;
}

static int
put_long(Writer *out, PyObject *value)
{
    long long number = PyLong_AsLongLong(value);
    if ((number == -1 && PyErr_Occurred()) || reserve(out, 12) < 0)
        return -1;
    put_32(out, 8);
    put_64(out, (uint64_t)number);
    return 0;
}

static int
put_float(Writer *out, PyObject *value)
{
    double number = PyFloat_AsDouble(value);
    if ((number == -1.0 && PyErr_Occurred()) || reserve(out, 12) < 0)
        return -1;
    uint64_t bits;
    memcpy(&bits, &number, 8);
    put_32(out, 8);
    put_64(out, bits);
    return 0;
}

static int
put_bool(Writer *out, PyObject *value)
{
    long truth = PyLong_AsLong(value);
    if (truth == -1 && PyErr_Occurred())
        return -1;
    if (truth != 0 && truth != 1) {
        PyErr_SetString(PyExc_ValueError, "True or False is wanted");
        return -1;
    }
    if (reserve(out, 5) < 0)
        return -1;
    put_32(out, 1);
    PyBytes_AS_STRING(out->bytes)[out->used++] = (char)truth;
    return 0;
}

/* Days since 2000-01-01 in the proleptic Gregorian calendar. */
static int64_t
days_since_2000(int year, int month, int day)
{
    int64_t y = month <= 2 ? year - 1 : year; /* years begin in March, so that the odd day is the last */
    int64_t era = (y >= 0 ? y : y - 399) / 400;
    int64_t of_era = y - era * 400;
    int64_t of_year = (153 * (month > 2 ? month - 3 : month + 9) + 2) / 5 + day - 1;
    return era * 146097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 730425;
}

static int
put_moment(Writer *out, PyObject *value)
{
    if (!PyDateTime_Check(value)) {
        PyErr_SetString(PyExc_TypeError, "a datetime is wanted");
        return -1;
    }
    int64_t offset = 0;
    PyObject *zone = PyDateTime_DATE_GET_TZINFO(value);
    if (zone != PyDateTime_TimeZone_UTC) {
        PyObject *delta = PyObject_CallMethodNoArgs(value, str_utcoffset);
        if (delta == NULL)
            return -1;
        if (!PyDelta_Check(delta)) {
            Py_DECREF(delta);
            PyErr_SetString(PyExc_TypeError, "a datetime with a time zone is wanted");
            return -1;
        }
        offset = ((int64_t)PyDateTime_DELTA_GET_DAYS(delta) * 86400 + PyDateTime_DELTA_GET_SECONDS(delta))
                 * 1000000 + PyDateTime_DELTA_GET_MICROSECONDS(delta);
        Py_DECREF(delta);
    }
    int64_t days = days_since_2000(PyDateTime_GET_YEAR(value), PyDateTime_GET_MONTH(value),
                                   PyDateTime_GET_DAY(value));
    int64_t seconds = days * 86400 + PyDateTime_DATE_GET_HOUR(value) * 3600
                      + PyDateTime_DATE_GET_MINUTE(value) * 60 + PyDateTime_DATE_GET_SECOND(value);
    if (reserve(out, 12) < 0)
        return -1;
    put_32(out, 8);
    put_64(out, (uint64_t)(seconds * 1000000 + PyDateTime_DATE_GET_MICROSECOND(value) - offset));
    return 0;
}

/* ------------------------------------------------------------------------------------ values in the text of MariaDB */

static int
put_words(Writer *out, PyObject *text)
{
    Py_ssize_t size;
    const char *data = PyUnicode_AsUTF8AndSize(text, &size);
    return put_raw(out, data, data == NULL ? 0 : size);
}

/* In utf8mb4 no byte of a longer character is a quote or a backslash. */
static int
put_quoted(Writer *out, PyObject *text)
{
    Py_ssize_t size;
    const char *data = PyUnicode_AsUTF8AndSize(text, &size);
    if (data == NULL || size > PY_SSIZE_T_MAX / 4 || reserve(out, 2 * size + 2) < 0)
        return -1;
    char *to = PyBytes_AS_STRING(out->bytes) + out->used;
    *to++ = '\'';
    for (Py_ssize_t n = 0; n < size; n++) {
        if (data[n] == '\'' || data[n] == '\\')
            *to++ = data[n];
        *to++ = data[n];
    }
    *to++ = '\'';
    out->used = to - PyBytes_AS_STRING(out->bytes);
    return 0;
}

static int
put_double(Writer *out, double number)
{
    char *digits = PyOS_double_to_string(number, 'r', 0, Py_DTSF_ADD_DOT_0, NULL);
    if (digits == NULL)
        return -1;
    int status = put_raw(out, digits, (Py_ssize_t)strlen(digits));
    if (status == 0 && strchr(digits, 'e') == NULL) /* without an exponent it would be a DECIMAL */
        status = put_raw(out, "e0", 2);
    PyMem_Free(digits);
    return status;
}

static int
put_naive(Writer *out, PyObject *moment)
{
    char text[48];
    int size = snprintf(text, sizeof text, "'%04d-%02d-%02d %02d:%02d:%02d", PyDateTime_GET_YEAR(moment),
                        PyDateTime_GET_MONTH(moment), PyDateTime_GET_DAY(moment), PyDateTime_DATE_GET_HOUR(moment),
                        PyDateTime_DATE_GET_MINUTE(moment), PyDateTime_DATE_GET_SECOND(moment));
    if (PyDateTime_DATE_GET_MICROSECOND(moment))
        size += snprintf(text + size, sizeof text - (size_t)size, ".%06d", PyDateTime_DATE_GET_MICROSECOND(moment));
    text[size++] = '\'';
    return put_raw(out, text, size);
}

static int
put_other(Writer *out, PyObject *value, PyObject *other)
{
    PyObject *written = PyObject_CallOneArg(other, value);
    if (written == NULL)
        return -1;
    int status = -1;
    if (PyUnicode_Check(written))
        status = put_words(out, written);
    else
        PyErr_SetString(PyExc_TypeError, "a literal is a text");
    Py_DECREF(written);
    return status;
}

static int
put_literal(Writer *out, PyObject *value, PyObject *other)
{
    if (value == Py_None)
        return put_raw(out, "NULL", 4);
    if (PyBool_Check(value))
        return put_raw(out, value == Py_True ? "1" : "0", 1);
    if (PyUnicode_CheckExact(value))
        return put_quoted(out, value);
    if (PyLong_CheckExact(value)) {
        int overflow;
        long long number = PyLong_AsLongLongAndOverflow(value, &overflow);
        if (!overflow) {
            char text[24];
            return put_raw(out, text, snprintf(text, sizeof text, "%lld", number));
        }
    }
    else if (PyFloat_CheckExact(value)) {
        double number = PyFloat_AS_DOUBLE(value);
        if (isfinite(number))
            return put_double(out, number);
    }
    else if (PyDateTime_CheckExact(value)) {
        PyObject *zone = PyDateTime_DATE_GET_TZINFO(value);
        if (zone == Py_None || zone == PyDateTime_TimeZone_UTC)
            return put_naive(out, value);
    }
    return put_other(out, value, other);
}

PyDoc_STRVAR(write_literals_doc,
             "write_literals(pieces, values, other): the pieces of a statement with literals between them.");

static PyObject *
write_literals(PyObject *Py_UNUSED(module), PyObject *const *args, Py_ssize_t count)
{
    if (count != 3) {
        PyErr_SetString(PyExc_TypeError, write_literals_doc);
        return NULL;
    }
    PyObject *pieces = snapshot(args[0], write_literals_doc);
    if (pieces == NULL)
        return NULL;
    PyObject *values = snapshot(args[1], write_literals_doc);
    if (values == NULL) {
        Py_DECREF(pieces);
        return NULL;
    }
    Py_ssize_t size = PyTuple_GET_SIZE(values);
    Writer out = {NULL, 0};
    if (PyTuple_GET_SIZE(pieces) != size + 1) {
        PyErr_SetString(PyExc_TypeError, "one piece more than values is wanted");
        goto failed;
    }
    out.bytes = PyBytes_FromStringAndSize(NULL, 128 + size * 24);
    if (out.bytes == NULL)
        goto failed;
    for (Py_ssize_t n = 0; n <= size; n++) {
        PyObject *piece = PyTuple_GET_ITEM(pieces, n);
        if (!PyUnicode_Check(piece)) {
            PyErr_SetString(PyExc_TypeError, "a piece is a text");
            goto failed;
        }
        if (put_words(&out, piece) < 0)
            goto failed;
        if (n < size && put_literal(&out, PyTuple_GET_ITEM(values, n), args[2]) < 0)
            goto failed;
    }
    Py_DECREF(pieces);
    Py_DECREF(values);
    if (_PyBytes_Resize(&out.bytes, out.used) < 0)
        return NULL;
    return out.bytes;
failed:
    Py_DECREF(pieces);
    Py_DECREF(values);
    Py_XDECREF(out.bytes);
    return NULL;
}

PyDoc_STRVAR(in_utc_doc, "in_utc(moment): a naive datetime that is meant in UTC, as an aware one; None stays.");

static PyObject *
in_utc(PyObject *Py_UNUSED(module), PyObject *value)
{
    if (value == Py_None)
        Py_RETURN_NONE;
    if (!PyDateTime_Check(value)) {
        PyErr_SetString(PyExc_TypeError, "a datetime is wanted");
        return NULL;
    }
    return PyDateTimeAPI->DateTime_FromDateAndTimeAndFold(
        PyDateTime_GET_YEAR(value), PyDateTime_GET_MONTH(value), PyDateTime_GET_DAY(value),
        PyDateTime_DATE_GET_HOUR(value), PyDateTime_DATE_GET_MINUTE(value), PyDateTime_DATE_GET_SECOND(value),
        PyDateTime_DATE_GET_MICROSECOND(value), PyDateTime_TimeZone_UTC, PyDateTime_DATE_GET_FOLD(value),
        PyDateTimeAPI->DateTimeType);
}

typedef int (*Put)(Writer *, PyObject *);

/* One dimension, counted from 1; an empty array has no dimension. */
static PyObject *
build_array(PyObject *const *args, Py_ssize_t count, Put put)
{
    if (count != 2) {
        PyErr_SetString(PyExc_TypeError, "(values, element) are wanted");
        return NULL;
    }
    unsigned long element = PyLong_AsUnsignedLong(args[1]);
    if (element == (unsigned long)-1 && PyErr_Occurred())
        return NULL;
    PyObject *values = snapshot(args[0], "values must be a sequence");
    if (values == NULL)
        return NULL;
    Py_ssize_t size = PyTuple_GET_SIZE(values);
    Writer out = {PyBytes_FromStringAndSize(NULL, 20 + size * 12), 0};
    if (out.bytes == NULL)
        goto failed;
    put_32(&out, size ? 1 : 0);
    put_32(&out, size ? 1 : 0); /* there may be NULLs */
    put_32(&out, (uint32_t)element);
    if (size) {
        put_32(&out, (uint32_t)size);
        put_32(&out, 1);
    }
    for (Py_ssize_t n = 0; n < size; n++) {
        PyObject *value = PyTuple_GET_ITEM(values, n);
        if (value == Py_None) {
            if (reserve(&out, 4) < 0)
                goto failed;
            put_32(&out, 0xFFFFFFFF);
        }
        else if (put(&out, value) < 0)
            goto failed;
    }
    Py_DECREF(values);
    if (_PyBytes_Resize(&out.bytes, out.used) < 0)
        return NULL;
    return out.bytes;
failed:
    Py_DECREF(values);
    Py_XDECREF(out.bytes);
    return NULL;
}

#define ARRAY(name, put) \
    static PyObject *name(PyObject *self, PyObject *const *args, Py_ssize_t count) \
    { return build_array(args, count, put); }
ARRAY(array_texts, put_text)
ARRAY(array_blobs, put_blob)
ARRAY(array_ints, put_int)
ARRAY(array_longs, put_long)
ARRAY(array_floats, put_float)
ARRAY(array_bools, put_bool)
ARRAY(array_moments, put_moment)

/* ------------------------------------------------------------------------------------ methods of mapped classes */

/* A function that stands in a class as `__init__` or `__setattr__`: it does the commonest case and calls the
 * Python function for any other. */
typedef struct {
    PyObject_HEAD
    PyObject *names;      /* what the quick way is for: a dict of columns, a frozenset of plain columns */
    PyObject *slow;       /* the Python function */
    PyObject *batch_name; /* of an instance's entry that holds its batch; for `__setattr__` */
    PyObject *missing;
    PyObject *collections; /* names of what a copy of the values does not hold fast: to-many relations */
    vectorcallfunc vectorcall;
} Method;

static int
method_traverse(Method *self, visitproc visit, void *arg)
{
    Py_VISIT(self->names);
    Py_VISIT(self->slow);
    Py_VISIT(self->missing);
    Py_VISIT(Py_TYPE(self));
    return 0;
}

static int
method_clear(Method *self)
{
    Py_CLEAR(self->names);
    Py_CLEAR(self->slow);
    Py_CLEAR(self->batch_name);
    Py_CLEAR(self->missing);
    Py_CLEAR(self->collections);
    return 0;
}

static void
method_dealloc(Method *self)
{
    PyTypeObject *type = Py_TYPE(self);
    PyObject_GC_UnTrack(self);
    method_clear(self);
    type->tp_free(self);
    Py_DECREF(type);
}

static PyObject *
method_get(PyObject *self, PyObject *instance, PyObject *owner)
{
    return instance == NULL || instance == Py_None ? Py_NewRef(self) : PyMethod_New(self, instance);
}

static PyObject *set_attribute(PyObject *, PyObject *const *, size_t, PyObject *);

static PyObject *
method_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    PyObject *names, *slow, *batch_name = Py_None, *missing = Py_None, *collections = empty;
    if (!PyArg_ParseTuple(args, "OO|OOO!", &names, &slow, &batch_name, &missing, &PyTuple_Type, &collections))
        return NULL;
    Method *self = (Method *)type->tp_alloc(type, 0);
    if (self != NULL) {
        self->names = Py_NewRef(names);
        self->slow = Py_NewRef(slow);
        self->batch_name = Py_NewRef(batch_name);
        self->missing = Py_NewRef(missing);
        self->collections = Py_NewRef(collections);
        self->vectorcall = set_attribute;
    }
    return (PyObject *)self;
}

/* Values of columns go straight into a new instance: nobody is to be told, nothing to be kept in step. */
static PyObject *
initialize(Method *self, PyObject *args, PyObject *kwargs)
{
    if (PyTuple_GET_SIZE(args) != 1 || !PyDict_Check(self->names))
        return PyObject_Call(self->slow, args, kwargs);
    if (kwargs == NULL)
        Py_RETURN_NONE;
    PyObject *name, *value;
    Py_ssize_t place = 0;
    while (PyDict_Next(kwargs, &place, &name, &value)) {
        int known = PyDict_Contains(self->names, name);
        if (known < 0)
            return NULL;
        if (!known)
            return PyObject_Call(self->slow, args, kwargs);
    }
    PyObject *held = PyObject_GenericGetDict(PyTuple_GET_ITEM(args, 0), NULL);
    if (held == NULL)
        return NULL;
    int failed = 0;
    place = 0;
    while (!failed && PyDict_Next(kwargs, &place, &name, &value))
        failed = PyDict_SetItem(held, name, value) < 0;
    Py_DECREF(held);
    if (failed)
        return NULL;
    Py_RETURN_NONE;
}

/* What a frame keeps of an object that it knows nothing of yet: (instance, a copy of its values, its collections);
 * the same answers as of `remember`. */
static int
save(PyObject *frame, PyObject *instance, PyObject *held, PyObject *number)
{
    PyObject *saved = PyObject_GetAttr(frame, str_saved);
    if (saved == NULL)
        return -1;
    int done = PyDict_Check(saved) ? PyDict_Contains(saved, number) : 0;
    if (done == 0 && PyDict_Check(saved)) {
        PyObject *values = PyDict_Copy(held);
        PyObject *kept = values == NULL ? NULL : PyTuple_Pack(3, instance, values, empty);
        done = kept == NULL || PyDict_SetItem(saved, number, kept) < 0 ? -1 : 1;
        Py_XDECREF(values);
        Py_XDECREF(kept);
    }
    Py_DECREF(saved);
    return done;
}

static int
holds_any(PyObject *held, PyObject *names)
{
    for (Py_ssize_t n = 0; n < PyTuple_GET_SIZE(names); n++) {
        int holds = PyDict_Contains(held, PyTuple_GET_ITEM(names, n));
        if (holds)
            return holds;
    }
    return 0;
}

static int
has_false(PyObject *object, PyObject *name)
{
    PyObject *value = PyObject_GetAttr(object, name);
    Py_XDECREF(value);
    return value == NULL ? -1 : value == Py_False;
}

/* The first change of an object that is loaded, in a session that is open and has a frame; the same answers. */
static int
note_first(Method *self, PyObject *session, PyObject *batch, PyObject *instance, PyObject *held, PyObject *dirty,
           PyObject *number, PyObject *name)
{
    int done = 0;
    PyObject *kind = PyObject_GetAttr(session, str_change_kind), *frames = NULL, *named = NULL;
    PyObject *change = NULL, *originals = NULL;
    if (kind == NULL) { /* no session of ours */
        PyErr_Clear();
        return 0;
    }
    if ((frames = PyObject_GetAttr(session, str_frames)) == NULL)
        goto error;
    if (!PyType_Check(kind) || !PyList_CheckExact(frames) || PyList_GET_SIZE(frames) == 0)
        goto end;
    PyObject *frame = PyList_GET_ITEM(frames, PyList_GET_SIZE(frames) - 1);
    int open = has_false(session, str_closed), loaded = has_false(batch, str_pending);
    int collected = holds_any(held, self->collections);
    if (open < 0 || loaded < 0 || collected < 0 || (named = PyObject_GetAttr(frame, str_named)) == NULL)
        goto error;
    if (!open || !loaded || collected || !PyDict_Check(named) || PyDict_GET_SIZE(named))
        goto end;
    if ((done = save(frame, instance, held, number)) <= 0)
        goto end;
    PyObject *before = PyDict_GetItemWithError(held, name);
    if ((before == NULL && PyErr_Occurred()) || (originals = PyDict_New()) == NULL
        || PyDict_SetItem(originals, name, before == NULL ? self->missing : before) < 0
        || (change = ((PyTypeObject *)kind)->tp_new((PyTypeObject *)kind, empty, NULL)) == NULL
        || PyObject_SetAttr(change, str_instance, instance) < 0
        || PyObject_SetAttr(change, str_originals, originals) < 0
        || PyDict_SetItem(dirty, number, change) < 0)
        goto error;
    goto end;
error:
    done = -1;
end:
    Py_DECREF(kind);
    Py_XDECREF(frames);
    Py_XDECREF(named);
    Py_XDECREF(originals);
    Py_XDECREF(change);
    return done;
}

/* 1: the session knows what the attribute was; 0: this is for the Python function; -1: an error. */
static int
remember(Method *self, PyObject *instance, PyObject *held, PyObject *batch, PyObject *name)
{
    int done = 0;
    PyObject *flushing = NULL, *dirty = NULL, *originals = NULL, *number = NULL;
    PyObject *session = PyObject_GetAttr(batch, str_session);
    if (session == NULL)
        return -1;
    if (session == Py_None)
        goto end;
    if ((flushing = PyObject_GetAttr(session, str_flushing)) == NULL
        || (dirty = PyObject_GetAttr(session, str_dirty)) == NULL)
        goto error;
    if (flushing != Py_False || !PyDict_Check(dirty))
        goto end;
    if ((number = PyLong_FromVoidPtr(instance)) == NULL)
        goto error;
    PyObject *change = PyDict_GetItemWithError(dirty, number);
    if (change == NULL) {
        if (PyErr_Occurred())
            goto error;
        done = note_first(self, session, batch, instance, held, dirty, number, name);
        if (done)
            goto end;
        PyObject *noted = PyObject_CallMethodObjArgs(session, str_note_change, instance, name, NULL);
        if (noted == NULL)
            goto error;
        Py_DECREF(noted);
        done = 1;
        goto end;
    }
    if ((originals = PyObject_GetAttr(change, str_originals)) == NULL)
        goto error;
    int known = PyDict_Contains(originals, name);
    if (known == 0) {
        PyObject *before = PyDict_GetItemWithError(held, name);
        if (before == NULL && PyErr_Occurred())
            goto error;
        known = PyDict_SetItem(originals, name, before == NULL ? self->missing : before);
    }
    if (known < 0)
        goto error;
    done = 1;
    goto end;
error:
    done = -1;
end:
    Py_DECREF(session);
    Py_XDECREF(flushing);
    Py_XDECREF(dirty);
    Py_XDECREF(number);
    Py_XDECREF(originals);
    return done;
}

static PyObject *
set_attribute(PyObject *callable, PyObject *const *args, size_t flagged, PyObject *keywords)
{
    Method *self = (Method *)callable;
    if (PyVectorcall_NARGS(flagged) != 3 || keywords != NULL)
        return PyObject_Vectorcall(self->slow, args, flagged, keywords);
    PyObject *instance = args[0], *name = args[1];
    int plain = PySet_Contains(self->names, name);
    if (plain < 0)
        return NULL;
    if (!plain)
        return PyObject_Vectorcall(self->slow, args, 3, NULL);
    PyObject *held = PyObject_GenericGetDict(instance, NULL);
    if (held == NULL)
        return NULL;
    PyObject *batch = PyDict_GetItemWithError(held, self->batch_name);
    Py_XINCREF(batch);
    int done = batch == NULL ? (PyErr_Occurred() ? -1 : 1) : remember(self, instance, held, batch, name);
    if (done == 1 && PyDict_SetItem(held, name, args[2]) < 0)
        done = -1;
    Py_XDECREF(batch);
    Py_DECREF(held);
    if (done < 0)
        return NULL;
    if (done == 0)
        return PyObject_Vectorcall(self->slow, args, 3, NULL);
    Py_RETURN_NONE;
}

static PyMemberDef method_members[] = {
    {"__wrapped__", T_OBJECT, offsetof(Method, slow), READONLY, "the Python function"},
    {NULL},
};

static PyMemberDef setter_members[] = {
    {"__wrapped__", T_OBJECT, offsetof(Method, slow), READONLY, "the Python function"},
    {"__vectorcalloffset__", T_PYSSIZET, offsetof(Method, vectorcall), READONLY, NULL},
    {NULL},
};

static PyType_Slot initializer_slots[] = {
    {Py_tp_doc, "Initializer(columns, slow): an `__init__` that takes columns by name"},
    {Py_tp_new, method_new},
    {Py_tp_call, initialize},
    {Py_tp_descr_get, method_get},
    {Py_tp_traverse, method_traverse},
    {Py_tp_clear, method_clear},
    {Py_tp_dealloc, method_dealloc},
    {Py_tp_members, method_members},
    {0, NULL},
};
static PyType_Slot setter_slots[] = {
    {Py_tp_doc,
     "AttributeSetter(plain, slow, batch_name, missing, collections): a `__setattr__` that remembers what was"},
    {Py_tp_new, method_new},
    {Py_tp_call, PyVectorcall_Call},
    {Py_tp_descr_get, method_get},
    {Py_tp_traverse, method_traverse},
    {Py_tp_clear, method_clear},
    {Py_tp_dealloc, method_dealloc},
    {Py_tp_members, setter_members},
    {0, NULL},
};
#define FLAGS (Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_METHOD_DESCRIPTOR)
static PyType_Spec initializer_spec = {
    "holdfast.native._speedups.Initializer", sizeof(Method), 0, FLAGS, initializer_slots,
};
static PyType_Spec setter_spec = {
    "holdfast.native._speedups.AttributeSetter", sizeof(Method), 0, FLAGS | Py_TPFLAGS_HAVE_VECTORCALL, setter_slots,
};

/* ------------------------------------------------------------------------------------ the module */

static PyMethodDef functions[] = {
    {"make_objects", (PyCFunction)(void (*)(void))make_objects, METH_FASTCALL, make_objects_doc},
    {"alive", (PyCFunction)(void (*)(void))alive, METH_FASTCALL, alive_doc},
    {"track", track, METH_O, track_doc},
    {"values_at", (PyCFunction)(void (*)(void))values_at, METH_FASTCALL, values_at_doc},
    {"group", (PyCFunction)(void (*)(void))group, METH_FASTCALL, group_doc},
    {"take", (PyCFunction)(void (*)(void))take, METH_FASTCALL, take_doc},
    {"settle", (PyCFunction)(void (*)(void))settle, METH_FASTCALL, settle_doc},
    {"kinds", kinds, METH_O, kinds_doc},
    {"values_of", values_of, METH_O, values_of_doc},
    {"unique", unique, METH_O, unique_doc},
    {"lacking", (PyCFunction)(void (*)(void))lacking, METH_FASTCALL, lacking_doc},
    {"text_facts", text_facts, METH_O, text_facts_doc},
    {"in_utc", in_utc, METH_O, in_utc_doc},
    {"write_literals", (PyCFunction)(void (*)(void))write_literals, METH_FASTCALL, write_literals_doc},
    {"changed", (PyCFunction)(void (*)(void))changed, METH_FASTCALL, changed_doc},
    {"array_texts", (PyCFunction)(void (*)(void))array_texts, METH_FASTCALL, NULL},
    {"array_blobs", (PyCFunction)(void (*)(void))array_blobs, METH_FASTCALL, NULL},
    {"array_ints", (PyCFunction)(void (*)(void))array_ints, METH_FASTCALL, NULL},
    {"array_longs", (PyCFunction)(void (*)(void))array_longs, METH_FASTCALL, NULL},
    {"array_floats", (PyCFunction)(void (*)(void))array_floats, METH_FASTCALL, NULL},
    {"array_bools", (PyCFunction)(void (*)(void))array_bools, METH_FASTCALL, NULL},
    {"array_moments", (PyCFunction)(void (*)(void))array_moments, METH_FASTCALL, NULL},
    {NULL},
};

static struct PyModuleDef module = {
    PyModuleDef_HEAD_INIT, "_speedups", "The hot loops of Holdfast in C.", -1, functions,
};

PyMODINIT_FUNC
PyInit__speedups(void)
{
    PyDateTime_IMPORT;
    if (PyDateTimeAPI == NULL)
        return NULL;
    empty = PyTuple_New(0);
    if (empty == NULL)
        return NULL;
    static const struct {
        PyObject **place;
        const char *text;
    } names[] = {
        {&str_session, "session"},
        {&str_flushing, "flushing"},
        {&str_dirty, "dirty"},
        {&str_originals, "originals"},
        {&str_note_change, "note_change"},
        {&str_utcoffset, "utcoffset"},
        {&str_saved, "saved"},
        {&str_frames, "frames"},
        {&str_named, "named"},
        {&str_closed, "closed"},
        {&str_pending, "pending"},
        {&str_change_kind, "change_kind"},
        {&str_instance, "instance"},
    };
    for (size_t n = 0; n < sizeof(names) / sizeof(names[0]); n++) {
        if ((*names[n].place = PyUnicode_InternFromString(names[n].text)) == NULL)
            return NULL;
    }
    PyObject *made = PyModule_Create(&module);
    PyObject *initializer = PyType_FromSpec(&initializer_spec), *setter = PyType_FromSpec(&setter_spec);
    if (made == NULL || initializer == NULL || setter == NULL
        || PyModule_AddObjectRef(made, "Initializer", initializer) < 0
        || PyModule_AddObjectRef(made, "AttributeSetter", setter) < 0)
        Py_CLEAR(made);
    Py_XDECREF(initializer);
    Py_XDECREF(setter);
    return made;
}
