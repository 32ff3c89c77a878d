-- Shows in Wireshark what can be seen of tund without its keys: the header of each
-- datagram, and the prelude that a control session begins with, before TLS. The port is
-- a preference; for a single conversation use "Decode As".
--
-- The formats are those of tund's protocol.md, parts 2.2 and 7.1.

local data = Proto("tund", "tund data channel")
local control = Proto("tund_control", "tund control channel")

data.prefs.port = Pref.uint("Port", 7900, "The UDP and TCP port that tund listens on")

local HEADER, TAG = 12, 16 -- bytes
local PRELUDE, RECORD_HEADER, MAX_RECORD = 48, 5, 4096
local HANDSHAKE = 22 -- the type of a TLS record

local types = { [1] = "DATA", [2] = "PROBE" }

local f = {
	type = ProtoField.uint8("tund.type", "Type", base.DEC, types, 0xf0),
	flags = ProtoField.uint8("tund.flags", "Flags", base.HEX, nil, 0x0f),
	partial = ProtoField.bool("tund.flags.partial_checksum", "Partial checksum", 8, nil, 0x01),
	reserved = ProtoField.uint8("tund.flags.reserved", "Reserved", base.HEX, nil, 0x0e),
	index = ProtoField.uint24("tund.index", "Index", base.HEX),
	number = ProtoField.uint64("tund.number", "Packet number", base.DEC),
	ciphertext = ProtoField.bytes("tund.ciphertext", "Ciphertext"),
	length = ProtoField.uint32("tund.length", "Payload length", base.DEC),
	tag = ProtoField.bytes("tund.tag", "Tag"),
}
data.fields = { f.type, f.flags, f.partial, f.reserved, f.index, f.number, f.ciphertext, f.length, f.tag }

local bad = {
	short = ProtoExpert.new("tund.short", "Shorter than header and tag", expert.group.MALFORMED, expert.severity.ERROR),
	type = ProtoExpert.new("tund.type.unknown", "Unknown type", expert.group.PROTOCOL, expert.severity.WARN),
	reserved = ProtoExpert.new("tund.flags.reserved.set", "Reserved flag set", expert.group.PROTOCOL, expert.severity.WARN),
	index = ProtoExpert.new("tund.index.zero", "Index is zero", expert.group.PROTOCOL, expert.severity.WARN),
}
data.experts = { bad.short, bad.type, bad.reserved, bad.index }

local c = {
	random = ProtoField.bytes("tund.prelude.random", "Random"),
	mac = ProtoField.bytes("tund.prelude.mac", "MAC"),
}
control.fields = { c.random, c.mac }

-- flags shows the lower half of the first byte, in which only DATA has a meaning for a bit.
local function flags(buffer, tree, kind)
	local branch = tree:add(f.flags, buffer(0, 1))
	local known = 0
	if kind == 1 then
		branch:add(f.partial, buffer(0, 1))
		branch:add(f.reserved, buffer(0, 1))
		known = 1
	end
	if buffer(0, 1):uint() % 16 > known then
		branch:add_proto_expert_info(bad.reserved)
	end
end

function data.dissector(buffer, pinfo, root)
	pinfo.cols.protocol = "tund"
	local tree = root:add(data, buffer())
	if buffer:len() < HEADER + TAG then
		tree:add_proto_expert_info(bad.short)
		pinfo.cols.info = "Too short"
		return buffer:len()
	end
	local kind = math.floor(buffer(0, 1):uint() / 16)
	local item = tree:add(f.type, buffer(0, 1))
	if not types[kind] then
		item:add_proto_expert_info(bad.type)
	end
	flags(buffer, tree, kind)
	item = tree:add(f.index, buffer(1, 3))
	if buffer(1, 3):uint() == 0 then
		item:add_proto_expert_info(bad.index)
	end
	tree:add(f.number, buffer(4, 8))
	local length = buffer:len() - HEADER - TAG
	if length > 0 then
		tree:add(f.ciphertext, buffer(HEADER, length))
	end
	tree:add(f.length, length):set_generated()
	tree:add(f.tag, buffer(HEADER + length, TAG))
	pinfo.cols.info = string.format("%s index 0x%06x number %s, %d bytes", types[kind] or "Type " .. kind,
		buffer(1, 3):uint(), tostring(buffer(4, 8):uint64()), length)
	return buffer:len()
end

-- The frame in which the prelude of each TCP stream is complete; 0 for a stream whose
-- beginning is not in the capture.
local preludes = {}
local stream = Field.new("tcp.stream")

function control.init()
	preludes = {}
end

-- missing is how many bytes are needed before prelude and first record are whole; nil if
-- this is no prelude.
local function missing(buffer)
	local need = PRELUDE + RECORD_HEADER
	if buffer:len() < need then
		return need - buffer:len()
	end
	local length = buffer(PRELUDE + 3, 2):uint()
	if buffer(PRELUDE, 1):uint() ~= HANDSHAKE or buffer(PRELUDE + 1, 1):uint() ~= 3 or length + RECORD_HEADER > MAX_RECORD then
		return nil
	end
	return math.max(need + length - buffer:len(), 0)
end

local function prelude(buffer, root)
	local tree = root:add(control, buffer(0, PRELUDE), "tund prelude")
	tree:add(c.random, buffer(0, 16))
	tree:add(c.mac, buffer(16, 32))
end

function control.dissector(buffer, pinfo, root)
	local id = stream().value
	local tls = Dissector.get("tls")
	local begins = preludes[id] == nil and pinfo.dst_port == data.prefs.port or preludes[id] == pinfo.number
	if not begins then
		return tls:call(buffer, pinfo, root)
	end
	local more = missing(buffer)
	if more == nil then
		preludes[id] = 0
		return tls:call(buffer, pinfo, root)
	elseif more > 0 then
		pinfo.desegment_offset = 0
		pinfo.desegment_len = more
		return buffer:len()
	end
	preludes[id] = pinfo.number
	prelude(buffer, root)
	tls:call(buffer(PRELUDE):tvb(), pinfo, root)
	pinfo.cols.protocol = "tund"
	pinfo.cols.info:prepend("Prelude, ")
	return buffer:len()
end

local udp, tcp = DissectorTable.get("udp.port"), DissectorTable.get("tcp.port")
local port = data.prefs.port
udp:add(port, data)
tcp:add(port, control)

function data.prefs_changed()
	if port == data.prefs.port then
		return
	end
	udp:remove(port, data)
	tcp:remove(port, control)
	port = data.prefs.port
	udp:add(port, data)
	tcp:add(port, control)
end
