// A client of a station's OPC UA server, built with node-opcua: no line of code in common with the server.
//
// Usage: node opcua_client.cjs OPTIONS, where OPTIONS is a JSON file: url, folder, patience_ms,
// security, policy, user, password.
// Each line of input is the id of a trigger, or a command as JSON; each is answered with one line of JSON: what it
// brought, or "again" with the reason why it brought nothing. After an error the client connects anew; the command
// "connect" connects with other options.
"use strict";

const fs = require("node:fs");
const readline = require("node:readline");
const opcua = require("node-opcua-client");
const { OPCUACertificateManager } = require("node-opcua-certificate-manager");

const settings = JSON.parse(fs.readFileSync(process.argv[2], "utf8"));
const patienceMs = settings.patience_ms || 4000;
const ours = ["http://opcfoundation.org/UA/MachineVision", "urn:gonogo:machine-vision"];
const machine = "VisionStateMachine/AutomaticModeStateMachine";
const resultFields = ["ResultId", "JobId", "MeasId", "PartId", "ResultState", "ResultContent", "IsSimulated"];
const watched = ["Answer/VerdictCode", `${machine}/CurrentState`, "ResultManagement/Results/LatestResult/ResultState"];

class Connection {
  constructor(options) {
    this.options = options;
    this.events = [];
    this.changes = [];
    this.waiting = [];
    this.nodes = { "": "ns=1;s=VisionSystem" };
    this.methods = {};
    this.values = {};
    this.lost = new Promise((_, reject) => (this.lose = reject));
    this.lost.catch(() => {}); // it is raced against whatever runs
  }

  async open() {
    const options = this.options;
    const keeper = new OPCUACertificateManager({ rootFolder: options.folder, automaticallyAcceptUnknownCertificate: true });
    await keeper.initialize();
    this.client = opcua.OPCUAClient.create({
      applicationName: "plc",
      clientCertificateManager: keeper,
      connectionStrategy: { maxRetry: 0 },
      endpointMustExist: false,
      keepSessionAlive: true,
      securityMode: opcua.MessageSecurityMode[options.security || "None"],
      securityPolicy: opcua.SecurityPolicy[options.policy || "None"],
    });
    for (const event of ["connection_lost", "close"]) {
      this.client.on(event, () => this.lose(new Error("the connection is lost")));
    }
    await this.client.connect(options.url);
    const name = { type: opcua.UserTokenType.UserName, userName: options.user, password: options.password };
    this.session = await this.client.createSession(options.user ? name : { type: opcua.UserTokenType.Anonymous });
    const uris = await this.session.readNamespaceArray();
    this.model = uris.findIndex((uri) => ours.includes(uri));
    await this.subscribe();
  }

  async close() {
    try {
      await Promise.race([this.client.disconnect(), later(1000)]);
    } catch (error) {
      // there was nothing to close
    }
  }

  async subscribe() {
    const timing = { requestedPublishingInterval: 10, requestedLifetimeCount: 6000, requestedMaxKeepAliveCount: 100 };
    const subscription = await this.session.createSubscription2({ ...timing, publishingEnabled: true });
    const monitoring = { samplingInterval: 0, queueSize: 100, discardOldest: true };
    const fields = ["EventType", "SourceName", "Message", ...resultFields.map((each) => `${this.model}:${each}`)];
    const events = await subscription.monitor(
      { nodeId: this.nodes[""], attributeId: opcua.AttributeIds.EventNotifier },
      { ...monitoring, filter: opcua.constructEventFilter(fields) },
      opcua.TimestampsToReturn.Both,
    );
    events.on("changed", (values) => this.event(fields, values));
    for (const path of watched) {
      const item = await subscription.monitor(
        { nodeId: await this.node(path), attributeId: opcua.AttributeIds.Value }, monitoring, opcua.TimestampsToReturn.Both,
      );
      item.on("changed", (value) => {
        this.values[path] = plain(value.value);
        this.changes.push([path, this.values[path]]);
        this.wake();
      });
    }
  }

  async event(fields, values) {
    const found = Object.fromEntries(fields.map((each, at) => [each.split(":").pop(), plain(values[at])]));
    this.events.push(found);
    this.wake();
  }

  wake() {
    for (const look of [...this.waiting]) look();
  }

  // Wait until `look` returns something.
  until(look) {
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => done(reject, new Error("it did not come in time")), patienceMs);
      const done = (end, value) => {
        clearTimeout(timer);
        this.waiting = this.waiting.filter((each) => each !== wake);
        end(value);
      };
      const wake = () => {
        const found = look();
        if (found) done(resolve, found);
      };
      this.waiting.push(wake);
      wake();
    });
  }

  // Return the id of a node by its path below the vision system; the names are those of the model, or our own.
  async node(path) {
    if (!(path in this.nodes)) {
      const cut = path.lastIndexOf("/");
      const parent = await this.node(path.slice(0, Math.max(0, cut)));
      const found = (await this.children(parent)).find((each) => each.browseName.name === path.slice(cut + 1));
      if (!found) throw new Error(`there is no ${path}`);
      this.nodes[path] = found.nodeId;
    }
    return this.nodes[path];
  }

  async children(nodeId) {
    const found = await this.session.browse({
      nodeId, referenceTypeId: "HierarchicalReferences", includeSubtypes: true, resultMask: 63,
      browseDirection: opcua.BrowseDirection.Forward,
    });
    return found.references || [];
  }

  async tree(path = "") {
    const found = {};
    for (const each of await this.children(await this.node(path))) {
      const below = path ? `${path}/${each.browseName.name}` : each.browseName.name;
      if (below in found || below.split("/").length > 5) continue;
      this.nodes[below] = each.nodeId;
      found[below] = opcua.NodeClass[each.nodeClass];
      Object.assign(found, await this.tree(below));
    }
    return found;
  }

  async read(path) {
    const value = await this.session.read({ nodeId: await this.node(path), attributeId: opcua.AttributeIds.Value });
    return { status: value.statusCode.name, value: plain(value.value) };
  }

  async write(path, value) {
    const written = { value: { dataType: "String", value } };
    const request = { nodeId: await this.node(path), attributeId: opcua.AttributeIds.Value, value: written };
    return { status: (await this.session.write(request)).name };
  }

  // Call a method; the inputs are plain values by their names, the others stay empty.
  async call(path, inputs = {}, few = false) {
    const methodId = await this.node(path);
    this.methods[path] ??= await this.session.getArgumentDefinition(methodId);
    const { inputArguments, outputArguments } = this.methods[path];
    const given = [];
    for (const each of few ? [] : inputArguments) given.push(await this.argument(each, inputs[each.name]));
    const objectId = await this.node(path.slice(0, path.lastIndexOf("/")));
    const found = await this.session.call({ objectId, methodId, inputArguments: given });
    const outputs = found.outputArguments || [];
    return {
      status: found.statusCode.name,
      outputs: Object.fromEntries(outputArguments.map((each, at) => [each.name, plain(outputs[at])])),
    };
  }

  async argument(argument, value) {
    const dataType = await opcua.findBasicDataType(this.session, argument.dataType);
    const array = argument.valueRank >= 0;
    const arrayType = array ? opcua.VariantArrayType.Array : opcua.VariantArrayType.Scalar;
    if (dataType === opcua.DataType.ExtensionObject) {
      const made = await this.session.constructExtensionObject(argument.dataType, value ?? {});
      return { dataType, arrayType, value: array ? [made] : made };
    }
    if (array) return { dataType: opcua.DataType.Variant, arrayType, value: (value ?? []).map(variant) };
    return { dataType, value: value ?? (dataType === opcua.DataType.String ? "" : empty(dataType)) };
  }

  async ask(id, more = {}) {
    await this.until(() => this.values[watched[1]] === "Ready");
    this.events.length = this.changes.length = 0;
    const named = { MeasId: { id }, PartId: { id: more.part || "" }, ProductId: { id: more.product || "" } };
    const called = await this.call(`${machine}/StartSingleJob`, { ...named, Parameters: more.parameters });
    if (called.status !== "Good" || called.outputs.Error) return { again: JSON.stringify(called) };
    const job = called.outputs.JobId.id;
    const mine = (each) => each.ResultContent && each.JobId && each.JobId.id === job;
    const result = await this.until(() => this.events.find(mine));
    // The state is that of this job again: the next job is not started on what the last one showed.
    await this.until(() => this.changes.some(([path, value]) => path === watched[1] && value === "Ready"));
    const [verdict, code, score, document] = result.ResultContent;
    return { verdict, code, score, document, job, result_id: result.ResultId.id, result_state: result.ResultState };
  }
}

function later(ms) {
  return new Promise((resolve) => setTimeout(resolve, ms));
}

function variant(value) {
  return new opcua.Variant(typeof value === "number" ? { dataType: "UInt32", value } : { dataType: "String", value });
}

function empty(dataType) {
  return dataType === opcua.DataType.Boolean ? false : dataType === opcua.DataType.LocalizedText ? { text: "" } : 0;
}

// Return a variant's value as JSON can hold it.
function plain(value) {
  if (value instanceof opcua.Variant) return plain(value.value);
  if (Array.isArray(value)) return value.map(plain);
  if (value instanceof opcua.LocalizedText) return value.text || "";
  if (value && typeof value.toJSON === "function") return value.toJSON();
  return value;
}

async function main() {
  let connection = null;
  let options = settings;
  for await (const line of readline.createInterface({ input: process.stdin })) {
    try {
      const asked = line.startsWith("{") ? JSON.parse(line) : { do: "ask", id: line.trim() };
      if (asked.do === "connect") {
        if (connection) await connection.close();
        connection = null;
        options = asked.options;
      }
      if (!connection) {
        connection = new Connection(options);
        await connection.open();
      }
      const answer = await Promise.race([handle(connection, asked), connection.lost]);
      console.log(JSON.stringify(answer));
    } catch (error) {
      if (connection) await connection.close();
      connection = null;
      console.log(JSON.stringify({ again: String(error.message || error).split("\n")[0].slice(0, 300) }));
    }
  }
  if (connection) await connection.close();
  process.exit(0);
}

async function handle(connection, asked) {
  if (asked.do === "call") return connection.call(asked.path, asked.inputs, asked.few);
  if (asked.do === "read") return connection.read(asked.path);
  if (asked.do === "write") return connection.write(asked.path, asked.value);
  if (asked.do === "tree") return { tree: await connection.tree() };
  if (asked.do === "ask") return connection.ask(asked.id, asked);
  if (asked.do === "connect") return { connected: true };
  return { events: connection.events.splice(0), changes: connection.changes.splice(0) };
}

for (const logger of ["setDebugLogger", "setWarningLogger", "setErrorLogger"]) opcua[logger](() => {});
main();
