#!/usr/bin/env python3
"""Writes pickles and torch.save files, and beside each the same tensors as a safetensors file written here.

    make_pickles.py DIR [small]      small: only the files that the repository keeps in tests/pickles
    make_pickles.py DIR --state FILE     a training state of fdm as a published one

Every file holds the same object but for what its name says.  Needs torch (1.13 was used for tests/pickles) and numpy.
"""
import collections
import io
import json
import os
import pickle
import struct
import sys

import numpy
import torch

SOURCE = 'x = 1\n' * 10000  # one object for all modules, as the published program's
TYPES = {torch.float32: 'F32', torch.float64: 'F64', torch.float16: 'F16', torch.bfloat16: 'BF16', torch.int64: 'I64',
         torch.int32: 'I32', torch.int16: 'I16', torch.int8: 'I8', torch.uint8: 'U8', torch.bool: 'BOOL'}


def raw(t):
    t = t.detach().contiguous().reshape(-1)
    if t.dtype == torch.bfloat16:
        return t.view(torch.int16).numpy().tobytes()
    return t.numpy().tobytes()


def safetensors(path, tensors):
    header, data, at = {}, [], 0
    for name, t in tensors.items():
        b = raw(t)
        header[name] = {'dtype': TYPES[t.dtype], 'shape': list(t.shape), 'data_offsets': [at, at + len(b)]}
        data.append(b)
        at += len(b)
    text = json.dumps(header).encode()
    text += b' ' * (-len(text) % 8)
    with open(path, 'wb') as f:
        f.write(struct.pack('<Q', len(text)) + text + b''.join(data))


def contents():
    """An object of everything that the reader knows, and its tensors by the names that it gives them."""
    torch.manual_seed(1)
    base = torch.randn(3, 4)
    shared = torch.arange(12.)
    net = torch.nn.Sequential(collections.OrderedDict(a=torch.nn.Linear(3, 2), norm=torch.nn.BatchNorm1d(2)))
    net.tied = net.a.weight
    net.register_buffer('hidden', torch.zeros(2), persistent=False)
    obj = collections.OrderedDict(
        plain=base, transposed=base.t(), every_second=shared[1::2], overlapping=torch.as_strided(shared, (3, 3), (2, 1)),
        repeated=torch.tensor([5.]).expand(2, 3), tied=base, empty=torch.zeros(0, 3), scalar=torch.tensor(2.5),
        nan=torch.tensor([float('nan'), float('inf'), -0.0, 1e-45]), parameter=torch.nn.Parameter(torch.ones(2)),
        f64=torch.tensor([1., 1 / 3, 1e300]).double(), f16=torch.tensor([1., 65504, 6e-8]).half(),
        bf16=torch.tensor([1., 3e38, 1e-40]).bfloat16(), i64=torch.tensor([-1, 2 ** 62]), i32=torch.tensor([-5, 6]).int(),
        i16=torch.tensor([-300, 7]).short(), i8=torch.tensor([-128, 127]).char(), u8=torch.tensor([0, 255]).byte(),
        bool=torch.tensor([True, False, True]), module=net, state_dict=net.state_dict(),
        array=numpy.arange(6, dtype='>i4').reshape(2, 3), fortran=numpy.asfortranarray(numpy.arange(6.).reshape(2, 3)),
        number=numpy.float32(1.25), listed=[base, {'x': (shared,)}],
        other={'set': {1, 2}, 'frozen': frozenset([3]), 'none': None, 'size': torch.Size([1, 2]), 'device': torch.device('cuda:1'),
               'dtype': torch.float16, 'bytes': b'\x00\xff', 'empty': b'', 'array': bytearray(b'abc'), 'big': 2 ** 70, 'minus': -2 ** 40,
               'real': 0.5, 'text': 'caf\u00e9'})
    tensors = collections.OrderedDict()
    for name, v in obj.items():
        if torch.is_tensor(v):
            tensors[name] = v
        elif isinstance(v, (torch.nn.Module, collections.OrderedDict)):
            state = v.state_dict() if isinstance(v, torch.nn.Module) else v
            for key, t in state.items():
                tensors[name + '.' + key] = t
            if isinstance(v, torch.nn.Module):
                tensors['module.tied'] = net.tied
        elif isinstance(v, (numpy.ndarray, numpy.generic)):
            tensors[name] = torch.tensor(numpy.asarray(v).astype(v.dtype.newbyteorder('=')))
    tensors['listed.0'] = base
    tensors['listed.1.x.0'] = shared
    return obj, tensors


class Persistent:
    """Stands for an object of the published program, which pickles itself with its source."""

    def __init__(self, name, state, source=''):
        self.meta = dict(type='class', version=6, module_src=source, class_name=name, state=state)

    def __reduce__(self):
        return persistence()._reconstruct_persistent_obj, (self.meta,)


def persistence():
    """A module by the published name, so that pickle finds the function that it writes the name of."""
    name = 'torch_utils.persistence'
    if name not in sys.modules:
        def rebuild(meta):
            raise RuntimeError('not to be called')
        rebuild.__module__, rebuild.__qualname__, rebuild.__name__ = name, *['_reconstruct_persistent_obj'] * 2
        sys.modules['torch_utils'], sys.modules[name] = type(sys)('torch_utils'), type(sys)(name)
        sys.modules[name]._reconstruct_persistent_obj = rebuild
    return sys.modules[name]


def module(class_name, source='', parameters=(), buffers=(), modules=(), **more):
    ordered = collections.OrderedDict
    return Persistent(class_name, dict(training=False, _parameters=ordered(parameters), _buffers=ordered(buffers),
                                       _non_persistent_buffers_set=set(), _backward_hooks=ordered(), _modules=ordered(modules), **more),
                      source)


def snapshot(source_bytes):
    """A small one with much source."""
    source = 'x = 1\n' * (source_bytes // 6)
    weight = torch.nn.Parameter(torch.randn(2, 3))
    inner = module('Inner', source, dict(bias=weight, none=None))
    return {'other': module('Net', source, dict(weight=weight), dict(b=torch.ones(1)), dict(inner=inner)), 'n': 1}, \
        {'other.weight': weight, 'other.b': torch.ones(1), 'other.inner.bias': weight}


def network(tensors, config):
    """A model file's tensors as the published modules: what a snapshot holds under "ema"."""
    tree = {}
    for name, t in tensors.items():
        at = tree
        *path, leaf = name.split('.')
        for part in path:
            at = at.setdefault(part, {})
        at[leaf] = t

    def build(node, class_name, **more):
        leaves = {k: v for k, v in node.items() if torch.is_tensor(v)}
        buffers = {k: v for k, v in leaves.items() if k in ('resample_filter', 'freqs')}
        parameters = {k: torch.nn.Parameter(v) for k, v in leaves.items() if k not in buffers}
        children = {k: build(v, 'SongUNet' if k == 'model' else 'Layer') for k, v in node.items() if k not in leaves}
        return module(class_name, SOURCE, parameters, buffers, children, **more)
    kwargs = {k: v for k, v in config.items() if k != 'class_name'}
    return build(tree, config['class_name'], _init_args=(), _init_kwargs=kwargs)


def read_safetensors(path):
    with open(path, 'rb') as f:
        data = f.read()
    end = 8 + struct.unpack('<Q', data[:8])[0]
    header = json.loads(data[8:end])
    meta = header.pop('__metadata__', {})
    tensors = collections.OrderedDict()
    for name, t in header.items():
        begin, last = (end + o for o in t['data_offsets'])
        if name == 'trainer.counters':
            meta['updates'] = str(struct.unpack('<2q', data[begin:last])[1])
        if t['dtype'] == 'F32' and last > begin:
            tensors[name] = torch.frombuffer(bytearray(data[begin:last]), dtype=torch.float32).reshape(t['shape'])
    return tensors, meta


def model_as_snapshot(model, path, protocol=4):
    """A model file as a published snapshot."""
    tensors, meta = read_safetensors(model)
    config = json.loads(meta.get('config') or meta['init_kwargs'])
    config.setdefault('class_name', meta.get('class_name'))
    net = network(collections.OrderedDict((k, v) for k, v in tensors.items() if k.startswith('model.')), config)
    loss = Persistent('EDMLoss', dict(P_mean=-1.2, P_std=1.2, sigma_data=0.5, _init_args=(), _init_kwargs={}))
    with open(path, 'wb') as f:
        pickle.dump(dict(ema=net, loss_fn=loss, augment_pipe=None, dataset_kwargs=dict(path='x.zip', xflip=False)), f, protocol)


def parameter_names(node):
    """In the order of Module.parameters()."""
    state = node.meta['state']
    own = list(state['_parameters'])
    return own + [f'{k}.{name}' for k, child in state['_modules'].items() for name in parameter_names(child)]


def state_as_published(source, folder):
    """A training state of fdm as the published program writes one: training-state-N.pt and network-snapshot-N.pkl in
    `folder`, and state.safetensors with what `fdm import` makes of the former.  Returns the .pt's path and the tensors."""
    tensors, meta = read_safetensors(source)
    config, options = json.loads(meta['config']), json.loads(meta['settings'])
    ours = {p: collections.OrderedDict((k[len(p):], v) for k, v in tensors.items() if k.startswith(p)) for p in ('net.', 'ema.', 'adam_m.', 'adam_v.')}
    buffers = {k: v for k, v in ours['net.'].items() if k not in ours['ema.']}
    net = network(ours['net.'], config)
    names, updates = parameter_names(net), float(meta['updates'])
    state = {i: {'step': torch.tensor(updates), 'exp_avg': ours['adam_m.'][n], 'exp_avg_sq': ours['adam_v.'][n]} for i, n in enumerate(names)}
    group = dict(lr=options['lr'], betas=(0.9, 0.999), eps=1e-8, weight_decay=0, amsgrad=False, params=list(range(len(names))))
    path = f'{folder}/training-state-000000.pt'
    torch.save(dict(net=net, optimizer_state=dict(state=state, param_groups=[group])), path)
    loss = Persistent('EDMLoss', dict(warmup_ite=options['warmup_ite'] or None, clamp_cur=5.0, warmup_step=numpy.float64(1.5)))
    ema = network(collections.OrderedDict((k, ours['ema.'].get(k, v)) for k, v in ours['net.'].items()), config)
    with open(f'{folder}/network-snapshot-000000.pkl', 'wb') as f:
        pickle.dump(dict(ema=ema, loss_fn=loss, augment_pipe=None, dataset_kwargs=dict(path='x.zip', xflip=True)), f, 4)
    expected = {'net.' + k: v for k, v in ours['net.'].items()}
    expected.update({'adam_m.' + n: ours['adam_m.'][n] for n in names})
    expected.update({'adam_v.' + n: ours['adam_v.'][n] for n in names})
    expected['adam_step'] = torch.full([len(names)], updates)
    safetensors(f'{folder}/state.safetensors', expected)
    assert len(names) + len(buffers) == len(ours['net.'])
    return path, tensors


def main():
    out, small = sys.argv[1], len(sys.argv) > 2
    os.makedirs(out, exist_ok=True)
    if small and sys.argv[2] == '--state':
        state_as_published(sys.argv[3], out)
        return
    obj, tensors = contents()
    safetensors(os.path.join(out, 'contents.safetensors'), tensors)
    for protocol in (2, 3, 4, 5):
        if not small or protocol in (2, 4):
            with open(f'{out}/plain{protocol}.pkl', 'wb') as f:
                pickle.dump(obj, f, protocol)
        for new in (False, True):
            if small and protocol not in (2, 5):
                continue
            path = f'{out}/{"zip" if new else "legacy"}{protocol}.pt'
            torch.save(obj, path, pickle_protocol=protocol, _use_new_zipfile_serialization=new)
    if small:
        return
    obj, tensors = snapshot(60 << 10)
    safetensors(f'{out}/source.safetensors', tensors)
    for protocol in (2, 4):
        with open(f'{out}/source{protocol}.pkl', 'wb') as f:
            pickle.dump(obj, f, protocol)
    obj, tensors = snapshot(20 << 20)
    safetensors(f'{out}/large_source.safetensors', tensors)
    with open(f'{out}/large_source.pkl', 'wb') as f:
        pickle.dump(obj, f, 4)


if __name__ == '__main__':
    main()
